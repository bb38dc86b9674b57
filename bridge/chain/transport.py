"""How JSON-RPC bytes reach an endpoint and come back. The only importer of web3; bounded in bytes and in time.

web3's own retries are off (it would resend transactions by itself) and its formatters are not used.
"""

from __future__ import annotations

import io
import logging
import socket
import time
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol

import requests
import urllib3.exceptions
from eth_typing import URI
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from web3.exceptions import Web3Exception
from web3.providers.rpc import HTTPProvider
from web3.types import RPCEndpoint

from bridge.chain.rpc_errors import RESPONSE_TOO_LARGE, retry_after_of
from bridge.errors import RateLimited, RpcUnavailable, TooMuch
from executor.errors import InvalidInput

_CHUNK = 256 * 2**10
logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of odd headers with the whole URL, and so with its key


class Transport(Protocol):
    """One way to an endpoint. Shared by threads."""

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Send one JSON document; HTTP status and body of the answer.

        RpcUnavailable: no answer came in time. RateLimited: HTTP status 429, or 503 with a time to wait. TooMuch(413):
        the answer was larger than the byte limit.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class _TooLarge(requests.RequestException):
    """An answer went beyond the byte limit."""


class _Hurried(io.RawIOBase):
    """What a socket sends, all of it by one deadline: a socket's own timeout begins anew with every byte."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._socket = sock
        self._raw = raw
        self._end = time.monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """As much as has come. TimeoutError once the deadline is over."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    """Status line, headers, interim answers and trailers too have to come by the deadline."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Hurried(sock, self.fp.detach()))


class _Connection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


class _BoundedSession(requests.Session):
    """Reads each answer within a byte limit and a deadline, whatever the peer sends and however slowly."""

    def __init__(self, limit: int, seconds: float) -> None:
        super().__init__()
        self._limit = limit
        self._seconds = seconds
        self.mount("http://", _Adapter())
        self.mount("https://", _Adapter())
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # an endpoint's cookies would be kept for ever

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: requests would read the whole body, without a limit, to know where a redirect leads."""

    def take_environment(self, url: str) -> None:
        """Look up once what the environment says about `url` (proxies, certificates, .netrc), not at each request."""
        settings = self.merge_environment_settings(url, {}, None, None, None)
        self.proxies, self.verify, self.cert = settings["proxies"], settings["verify"], settings["cert"]
        self.auth = requests.utils.get_netrc_auth(url)
        self.trust_env = False

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """As requests' own, with a deadline for the whole answer and a limit on its bytes."""
        end = time.monotonic() + self._seconds
        response = super().send(request, **{**kwargs, "stream": True})
        body = bytearray()
        try:
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if len(body) > self._limit:
                    raise _TooLarge(f"the answer is larger than {self._limit} bytes")
                if time.monotonic() > end:
                    raise requests.Timeout(f"the answer took longer than {self._seconds} s")
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
            response.close()
            raise
        response.raw.release_conn()
        # What requests itself does in Response.content, which has no limit.
        response._content = bytes(body)  # noqa: SLF001
        response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
        return response


class HttpTransport(HTTPProvider):
    """web3's HTTP provider, without its retries, formatters and redirects."""

    def __init__(self, url: str, timeout_seconds: float, max_response_bytes: int) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput("rpc_url", "must start with http:// or https://")
        self._session = _BoundedSession(max_response_bytes, timeout_seconds)
        self._session.take_environment(url)
        super().__init__(
            URI(url),
            request_kwargs={"timeout": timeout_seconds, "allow_redirects": False},
            session=self._session,
            exception_retry_configuration=None,
        )

    def post(self, body: bytes) -> tuple[int, bytes]:
        """See `Transport`."""
        try:
            return 200, self._make_request(RPCEndpoint(""), body)
        except _TooLarge as exc:
            raise TooMuch(RESPONSE_TOO_LARGE, str(exc)) from exc
        except requests.HTTPError as exc:
            answer = exc.response
            wait = retry_after_of(answer.headers.get("retry-after"), answer.headers.get("date"))
            if answer.status_code == 429 or (answer.status_code == 503 and wait is not None):
                raise RateLimited(f"the endpoint answered with HTTP status {answer.status_code}", wait) from exc
            return answer.status_code, answer.content
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, Web3Exception) as exc:
            raise RpcUnavailable(f"the endpoint does not answer ({type(exc).__name__})") from exc

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
