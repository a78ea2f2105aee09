"""``metav1.Status``: how an apiserver says no, in its own words (``apimachinery: pkg/api/errors/errors.go``)."""

from __future__ import annotations

from fakekubelet.apiserver.resources import Object, Resource


class StatusError(Exception):
    """An answer that is a Status. ``headers`` go with it."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: Object | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details
        self.headers = headers

    def document(self) -> Object:
        """The Status as JSON."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
        }
        if self.details is not None:
            status["details"] = self.details
        return status | {"code": self.code}


def _details(resource: Resource, name: str = "") -> Object:
    details = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    return details | {"kind": resource.plural}


def not_found(resource: Resource, name: str) -> StatusError:
    """404: no such object."""
    return StatusError(404, "NotFound", f'{resource.qualified} "{name}" not found', details=_details(resource, name))


def no_such_path() -> StatusError:
    """404: no such resource."""
    return StatusError(404, "NotFound", "the server could not find the requested resource", details={})


def unauthorized() -> StatusError:
    """401."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def bad_request(message: str) -> StatusError:
    """400."""
    return StatusError(400, "BadRequest", message)


def forbidden(resource: Resource, name: str, why: str) -> StatusError:
    """403 on a resource."""
    what = f'{resource.qualified} "{name}"' if name else resource.qualified
    return StatusError(403, "Forbidden", f"{what} is forbidden: {why}", details=_details(resource, name))


def forbidden_path(why: str) -> StatusError:
    """403 on a path that is no resource."""
    return StatusError(403, "Forbidden", f"forbidden: {why}", details={})


def method_not_supported(resource: Resource, verb: str) -> StatusError:
    """405."""
    return StatusError(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        details=_details(resource),
    )


def not_acceptable() -> StatusError:
    """406."""
    return StatusError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/json;stream=watch",
    )


def invalid(kind: str, name: str, causes: list[tuple[str, str]]) -> StatusError:
    """422: ``causes`` are pairs of field and fault."""
    words = [f"{where}: {what}" for where, what in causes]
    text = words[0] if len(words) == 1 else "[" + ", ".join(words) + "]"
    listed = [{"reason": "FieldValueInvalid", "message": what, "field": where} for where, what in causes]
    details = {"name": name, "kind": kind, "causes": listed}
    return StatusError(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details=details)


def expired(message: str) -> StatusError:
    """410: what a client remembers is too old."""
    return StatusError(410, "Expired", message)


def internal_error(message: str) -> StatusError:
    """500."""
    return StatusError(
        500, "InternalError", f"Internal error occurred: {message}", details={"causes": [{"message": message}]}
    )
