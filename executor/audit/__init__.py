"""What an operator lets in and out: the policy, and the rules on outputs. Pure."""
