"""Writes ca.pem, peer.pem (certificate and key) and stranger.pem (of another CA) into a folder."""

from __future__ import annotations

import datetime
import os
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject: str, key, issuer: str, issuer_key, ca: bool) -> x509.Certificate:  # type: ignore[no-untyped-def]
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(hours=1))
        .not_valid_after(NOW + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def pem(cert: x509.Certificate, key=None) -> bytes:  # type: ignore[no-untyped-def]
    out = cert.public_bytes(serialization.Encoding.PEM)
    if key is not None:
        out += key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    return out


def main(folder: str) -> None:
    for ca_name, files in {
        "cluster": ("ca.pem", "peer.pem"),
        "other": (None, "stranger.pem"),
    }.items():
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = certificate(ca_name, ca_key, ca_name, ca_key, ca=True)
        key = ec.generate_private_key(ec.SECP256R1())
        peer = certificate(f"{ca_name}-peer", key, ca_name, ca_key, ca=False)
        if files[0]:
            with open(os.path.join(folder, files[0]), "wb") as f:
                f.write(pem(ca))
        with open(os.path.join(folder, files[1]), "wb") as f:
            f.write(pem(peer, key))


if __name__ == "__main__":
    main(sys.argv[1])
