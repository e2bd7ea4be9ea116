"""What goes wrong with S3, in the words of the contract: botocore's, aiohttp's and the system's errors end here.

S3's codes: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. What is not known counts as away: trying again
does no harm, and a person reads the reason.
"""

from __future__ import annotations

from botocore import exceptions as boto

from edge_app.contract.errors import (
    ObjectDamagedError,
    ObjectMissingError,
    ObjectStoreAwayError,
    ObjectStoreError,
    ObjectStoreRefusedError,
    ObjectTakenError,
)

_LOGIN = "check the keys in key_env and secret_env, AWS's own variables or profile, and what they may do in this bucket"
_DAMAGED = "damaged on the way or on the disk"
_TAKEN = "somebody else wrote it"
_CLOCK = "this machine's clock is wrong"
_CODES: dict[str, tuple[type[ObjectStoreError], str]] = {
    "BadDigest": (ObjectDamagedError, _DAMAGED),
    "InvalidDigest": (ObjectDamagedError, _DAMAGED),
    "XAmzContentSHA256Mismatch": (ObjectDamagedError, _DAMAGED),
    "XAmzContentChecksumMismatch": (ObjectDamagedError, _DAMAGED),
    "PreconditionFailed": (ObjectTakenError, _TAKEN),
    "ConditionalRequestConflict": (ObjectTakenError, _TAKEN),
    "RequestTimeTooSkewed": (ObjectStoreAwayError, _CLOCK),
    "RequestExpired": (ObjectStoreAwayError, _CLOCK),
    "NoSuchBucket": (ObjectStoreRefusedError, "make the bucket, or correct url"),
    "InvalidBucketName": (ObjectStoreRefusedError, "correct url"),
    "PermanentRedirect": (ObjectStoreRefusedError, "set region to the bucket's, or correct endpoint"),
    "AuthorizationHeaderMalformed": (ObjectStoreRefusedError, "set region to the bucket's"),
    "NotImplemented": (ObjectStoreRefusedError, "this server has no conditional writes or no SHA-256 checksums"),
}
_STATUSES: dict[int, tuple[type[ObjectStoreError], str]] = {
    401: (ObjectStoreRefusedError, _LOGIN),
    403: (ObjectStoreRefusedError, _LOGIN),
    404: (ObjectMissingError, "no such object, or no such bucket"),
    408: (ObjectStoreAwayError, ""),
    412: (ObjectTakenError, _TAKEN),
    429: (ObjectStoreAwayError, ""),
}
_NO_KEYS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.ConfigNotFound,
    boto.UnauthorizedSSOTokenError,
)
_WRONG_SETTINGS = (boto.NoRegionError, boto.ParamValidationError, boto.InvalidRegionError, boto.UnknownEndpointError)


def translated(error: BaseException, where: str, what: str) -> ObjectStoreError:
    """`what` is the object's name or the request's."""
    said = f"{where}: {what}"
    if isinstance(error, boto.ClientError):
        return _answered(error, said)
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, _NO_KEYS):
        return ObjectStoreRefusedError(f"{said}: {reason}; {_LOGIN}")
    if isinstance(error, boto.SSLError):
        return ObjectStoreRefusedError(f"{said}: {reason}; the server's certificate must be signed by those in ca")
    if isinstance(error, _WRONG_SETTINGS):
        return ObjectStoreRefusedError(f"{said}: {reason}; correct url, region or endpoint")
    return ObjectStoreAwayError(f"{said}: {reason}")


def _answered(error: boto.ClientError, said: str) -> ObjectStoreError:
    """The server's answer: a code, a sentence and an HTTP status."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    sentence = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    otherwise = ObjectStoreAwayError if status >= 500 else ObjectStoreRefusedError
    kind, advice = _CODES.get(code) or _STATUSES.get(status) or (otherwise, "")
    return kind("; ".join(part for part in (f"{said}: {code} {sentence}".rstrip(), advice) if part))
