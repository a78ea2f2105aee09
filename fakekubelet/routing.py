"""Routes as a table: which handler answers a path, whatever server it belongs to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from fakekubelet.auth import User
from fakekubelet.messages import Answer, Request

Handler = Callable[[Request, User, dict[str, str]], Answer | Awaitable[Answer]]
"""What answers a request of a known shape: an ordinary function, or a coroutine function. It is given the caller and
the named parts of the path."""


@dataclass(frozen=True, slots=True)
class Route:
    """One shape of a path: literal parts and ``{names}``. A last part ``{name...}`` takes all that is left, or nothing.

    ``methods`` may be empty: then every method will do.
    """

    methods: tuple[str, ...]
    shape: tuple[str, ...]
    handler: Handler

    def match(self, parts: Sequence[str]) -> dict[str, str] | None:
        """The named parts, or None if the shape is another."""
        shape, found = self.shape, {}
        if shape and shape[-1].endswith("...}"):
            if len(parts) < len(shape) - 1:
                return None
            found[shape[-1][1:-4]] = "/".join(parts[len(shape) - 1 :])
            shape, parts = shape[:-1], parts[: len(shape) - 1]
        if len(parts) != len(shape):
            return None
        for part, expected in zip(parts, shape, strict=True):
            if expected.startswith("{"):
                found[expected[1:-1]] = part
            elif part != expected:
                return None
        return found


def route(methods: str, path: str, handler: Handler) -> Route:
    """``route("GET POST", "/exec/{namespace}/{pod}/{container}", handler)``."""
    return Route(tuple(methods.split()), tuple(path.strip("/").split("/")), handler)


@dataclass(frozen=True, slots=True)
class Found:
    """What a table knows of a path: the first route of that shape and method, else the methods that there are."""

    route: Route | None
    names: dict[str, str]
    allowed: tuple[str, ...] = ()

    async def answer(self, request: Request, user: User) -> Answer:
        """What the route's handler says."""
        assert self.route is not None
        answer = self.route.handler(request, user, self.names)
        return await answer if isinstance(answer, Awaitable) else answer


class RouteTable:
    """Routes in order: the first that fits is taken."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)

    def find(self, method: str, path: str) -> Found:
        """For a clean path."""
        parts = path.strip("/").split("/")
        allowed: list[str] = []
        for each in self.routes:
            names = each.match(parts)
            if names is None:
                continue
            if method in each.methods or not each.methods:
                return Found(each, names)
            allowed += each.methods
        return Found(None, {}, tuple(dict.fromkeys(allowed)))
