"""What S3 and its libraries say, as the contract calls it; and a server whose certificate nobody knows."""

import datetime
import ssl

import pytest

boto = pytest.importorskip("botocore.exceptions")
pytest.importorskip("s3fs")

from bad_line import BadLine  # noqa: E402

from edge_app.contract.errors import (  # noqa: E402
    ObjectDamagedError,
    ObjectMissingError,
    ObjectStoreAwayError,
    ObjectStoreRefusedError,
    ObjectTakenError,
)
from edge_app.contract.objects import open_store, sha256_of  # noqa: E402
from edge_app.contract.objects.s3_faults import translated  # noqa: E402


def answer(code, status, message="as the server says"):
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answer("SlowDown", 503), ObjectStoreAwayError),
        (answer("InternalError", 500), ObjectStoreAwayError),  # what SeaweedFS says of a full disk
        (answer("TooManyRequests", 429), ObjectStoreAwayError),
        (answer("RequestTimeTooSkewed", 403), ObjectStoreAwayError),
        (answer("AccessDenied", 403), ObjectStoreRefusedError),
        (answer("ExpiredToken", 400), ObjectStoreRefusedError),
        (answer("QuotaExceeded", 403), ObjectStoreRefusedError),
        (answer("NoSuchBucket", 404), ObjectStoreRefusedError),
        (answer("PermanentRedirect", 301), ObjectStoreRefusedError),
        (answer("NotImplemented", 501), ObjectStoreRefusedError),
        (answer("NoSuchKey", 404), ObjectMissingError),
        (answer("404", 404), ObjectMissingError),
        (answer("BadDigest", 400), ObjectDamagedError),
        (answer("XAmzContentSHA256Mismatch", 400), ObjectDamagedError),
        (answer("PreconditionFailed", 412), ObjectTakenError),
        (answer("ConditionalRequestConflict", 409), ObjectTakenError),
        (boto.EndpointConnectionError(endpoint_url="http://x"), ObjectStoreAwayError),
        (boto.ReadTimeoutError(endpoint_url="http://x"), ObjectStoreAwayError),
        (boto.HTTPClientError(error="cut"), ObjectStoreAwayError),
        (boto.NoCredentialsError(), ObjectStoreRefusedError),
        (boto.ProfileNotFound(profile="p"), ObjectStoreRefusedError),
        (boto.FlexibleChecksumError(error_msg="crc32"), ObjectDamagedError),
        (ConnectionResetError(104, "reset by peer"), ObjectStoreAwayError),
        (TimeoutError(), ObjectStoreAwayError),
    ],
)
def test_each_fault_has_one_kind_and_says_where(error, kind):
    made = translated(error, "s3://crops", "a.tar")
    assert type(made) is kind
    assert str(made).startswith("s3://crops: a.tar: ")


def test_what_a_server_says_stays_one_line():
    assert "\n" not in str(translated(answer("Odd", 400, "two\nlines"), "s3://crops", "a.tar"))


@pytest.fixture
def certificate(tmp_path):
    """A context that serves, and the file of the certificate that signed itself, for localhost."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=localhost")
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    forms = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "ca.pem").write_bytes(pem)
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*forms))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    return context, tmp_path / "ca.pem"


def test_a_certificate_is_judged_by_the_given_ones(s3_settings, seaweed, certificate):
    context, ca = certificate
    with BadLine(int(seaweed.endpoint.rpartition(":")[2]), tls=context) as line:
        endpoint = f"https://localhost:{line.port}"
        with pytest.raises(ObjectStoreRefusedError, match="must be signed by those in ca"):
            open_store(s3_settings(endpoint=endpoint)).list()
        store = open_store(s3_settings(endpoint=endpoint, ca=ca))
        etag = store.create("lock", b"one")
        assert store.read("lock") == (b"one", etag)
        assert store.put("ca.tar", ca, sha256_of(ca))
