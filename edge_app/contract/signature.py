"""Who made a bundle: Ed25519 over its manifest. Keys are PEM files, as `openssl genpkey -algorithm ed25519` makes them.

A signature is 96 bytes: the signer's public key and the 64 bytes of RFC 8032. The key travels along so that a refusal
can name the signer; it is trusted only when the reader was given the same one.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edge_app.contract.errors import BundleError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PrivateKey: TypeAlias = "Ed25519PrivateKey"
SIGNATURE_BYTES = 96
KEY_LIMIT_BYTES = 1 << 16  # of a PEM file
_PURPOSE = b"crosslane.bundle signature\n"  # a signature given for anything else is none for a bundle


def key_name(public: bytes) -> str:
    """What a public key is called in messages."""
    return f"ed25519:{public.hex()[:16]}"


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """(32,) bytes: the public half."""
    return key.public_key().public_bytes_raw()


def sign(message: bytes, key: Ed25519PrivateKey) -> bytes:
    """The 96 bytes that `verify` wants to see. The same message and key give the same bytes."""
    return public_bytes(key) + key.sign(_PURPOSE + message)


def verify(message: bytes, signature: bytes, trusted: Collection[bytes], where: str) -> bytes:
    """The public key that signed `message`, one of `trusted`. Raises `BundleError`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public = signature[:32]
    if public not in trusted:
        known = ", ".join(map(key_name, trusted)) or "none"
        raise BundleError(
            f"{where} has a foreign signature: signed by {key_name(public)}, trusted are {known}; "
            "fetch the bundle from its maker, or add the maker's public key to the configuration"
        )
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature[32:], _PURPOSE + message)
    except InvalidSignature:
        raise BundleError(
            f"{where}: the signature of {key_name(public)} does not fit the manifest (damaged or changed); get it again"
        ) from None
    return public


def write_key_pair(private: Path, public: Path) -> bytes:
    """Make a new key, write both halves as PEM (the private one for its owner only); returns the public key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shared = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secret)
        public.write_bytes(shared)
    except FileExistsError:
        raise BundleError(f"{private} exists already; a signing key is never overwritten") from None
    except OSError as error:
        raise BundleError(f"the key cannot be written to {error.filename}: {error.strerror}") from None
    return public_bytes(key)


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The signing key in a PEM file. Raises `BundleError`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: the key is encrypted
        raise BundleError(f"{path} is no unencrypted private key in PEM: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{path} holds another kind of key; make one with: openssl genpkey -algorithm ed25519")
    return key


def read_public_key(path: Path) -> bytes:
    """(32,) bytes: the public key in a PEM file. Raises `BundleError`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm):
        raise BundleError(f"{path} is no public key in PEM; make it with: openssl pkey -in KEY -pubout") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{path} holds another kind of key; bundles are signed with Ed25519")
    return key.public_bytes_raw()


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device read for ever
            raise BundleError(f"key file {path} is no plain file")
        with path.open("rb") as file:
            content = file.read(KEY_LIMIT_BYTES + 1)
    except OSError as error:
        raise BundleError(f"key file {path} cannot be read: {error.strerror or error}") from None
    if len(content) > KEY_LIMIT_BYTES:
        raise BundleError(f"key file {path} is larger than {KEY_LIMIT_BYTES} bytes; is it the right file?")
    return content
