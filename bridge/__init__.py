"""The bridge: follows the chain, routes requests to labelled nodes, relays results, serves the API."""
