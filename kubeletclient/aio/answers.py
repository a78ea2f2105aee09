"""Plain requests whose answer is a stream of bytes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx

from kubeletclient import errors
from kubeletclient._answers import Call, cut, headers_of, refused
from kubeletclient._fetch import REFUSAL_LIMIT, complain, fetch_error, route_of
from kubeletclient._policy import Deadline
from kubeletclient._worker import in_thread
from kubeletclient.aio.plain import plain_client

__all__ = ["Answer", "open_answer"]


class Answer:
    """An answer that has begun. Iterate over it for its bytes, and close it."""

    def __init__(self, call: Call, client: httpx.AsyncClient, response: httpx.Response, deadline: Deadline) -> None:
        self.call = call
        self.received = 0
        self.content_type = response.headers.get("Content-Type", "")
        self._client = client
        self._response = response
        self._deadline = deadline
        self._closed = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes as they come. Raises ConnectionLost when they end too early, DeadlineExceeded."""
        try:
            async for piece in self._response.aiter_raw():
                self.received += len(piece)
                yield piece
                if self._deadline.passed():
                    raise self._deadline.error(f"the end of {self.call.what}")
        except (httpx.HTTPError, httpx.StreamError, OSError, ValueError) as error:
            if self._closed:  # by another task, under the read
                raise errors.ProcessClosed(f"{self.call.what} was closed", hint="ask for it again") from None
            if isinstance(error, errors.ClientError) or not isinstance(error, httpx.HTTPError | httpx.StreamError):
                raise
            if self._deadline.passed():
                raise self._deadline.error(f"the end of {self.call.what}") from None
            raise cut(self.call, self.received, error) from error

    async def read(self, limit: int) -> bytes:
        """All of it, of at most ``limit`` bytes. Raises InvalidAnswer for more."""
        body = bytearray()
        try:
            async for piece in self.pieces():
                body += piece
                if len(body) > limit:
                    raise errors.InvalidAnswer(
                        f"{self.call.what} is larger than {limit} bytes",
                        hint="ask for less",
                        route=self.call.target.route,
                        url=self.call.target.shown,
                    )
        finally:
            await self.close()
        return bytes(body)

    async def close(self) -> None:
        """Leave; what did not come is not waited for."""
        self._closed = True
        await self._response.aclose()
        await self._client.aclose()


async def open_answer(call: Call, deadline: Deadline) -> Answer:
    """Send the request, and return when its answer begins; once more if other credentials can be had than those that
    were refused. Raises the errors of ``_fetch``.
    """
    taken = time.monotonic()
    trust = call.way.settings.trust
    try:
        return await _open(call, deadline)
    except errors.Unauthorized as error:
        refusal = error
        if not await in_thread(lambda: trust.rejected(taken)):
            await in_thread(lambda: complain(call.fetch, refusal))
            raise
    return await _open(call, deadline)


async def _open(call: Call, deadline: Deadline) -> Answer:
    settings = call.way.settings
    left = deadline.left
    headers = await in_thread(lambda: headers_of(call, left()))
    client = await plain_client(route_of(call.fetch), deadline)
    trust = settings.trust
    try:
        request = client.build_request(
            call.method,
            call.url,
            headers=headers,
            timeout=left(settings.deadlines.upgrade),
            extensions={"sni_hostname": trust.server_name} if trust.server_name else {},
        )
        try:
            response = await client.send(request, stream=True)
        except httpx.HTTPError as error:
            if deadline.passed():
                raise deadline.error(call.what) from None
            raise fetch_error(call.fetch, None, error) from error
        answer = Answer(call, client, response, deadline)
        request.extensions["timeout"]["read"] = left(call.quiet)  # looked at for each read
        if not response.is_success:
            raise refused(call, response.status_code, await _beginning(answer))
        return answer
    except BaseException:
        await client.aclose()
        raise


async def _beginning(answer: Answer) -> bytes:
    """What a refusal says, as far as it comes."""
    body = bytearray()
    try:
        async for piece in answer.pieces():
            body += piece
            if len(body) >= REFUSAL_LIMIT:
                break
    except errors.ConnectionLost:
        pass
    return bytes(body)
