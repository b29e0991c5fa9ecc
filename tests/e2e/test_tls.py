"""A cluster that speaks TLS both ways."""

from __future__ import annotations

import datetime
import operator
import ssl

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed import Client
from distributed.security import Security

from cluster import Cluster, wait_until


def make_certificates(folder):
    """A CA, a certificate that it signed, and one that it did not."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def certificate(name, issuer=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        cert = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert, key

    ca = certificate("ca")
    certificate("good", ca)
    certificate("stranger")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    flags = [
        "--tls-ca-file",
        str(folder / "ca.pem"),
        "--tls-cert",
        str(folder / "good.pem"),
        "--tls-key",
        str(folder / "good.key"),
    ]
    security = Security(
        tls_ca_file=str(folder / "ca.pem"),
        tls_client_cert=str(folder / "good.pem"),
        tls_client_key=str(folder / "good.key"),
        require_encryption=True,
    )
    options = {"security": security}
    with Cluster(
        workers=["ours", "stock"],
        scheduler_flags=["--protocol", "tls", *flags],
        worker_flags=["--protocol", "tls", *flags],
        client_options=options,
    ) as cluster:
        cluster.certificates = folder
        yield cluster


def test_it_computes(cluster, client):
    assert cluster.address.startswith("tls://")
    assert all(address.startswith("tls://") for address in client.scheduler_info()["workers"])
    assert client.gather(client.map(operator.neg, range(50))) == [-i for i in range(50)]
    first, second = client.scheduler_info()["workers"]
    data = client.submit(np.ones, 2_000_000, workers=[first])
    assert client.submit(np.sum, data, workers=[second]).result(timeout=30) == 2_000_000


def test_strangers_are_refused(cluster, client):
    folder = cluster.certificates
    wrong = Security(
        tls_ca_file=str(folder / "ca.pem"),
        tls_client_cert=str(folder / "stranger.pem"),
        tls_client_key=str(folder / "stranger.key"),
        require_encryption=True,
    )
    with pytest.raises((OSError, ssl.SSLError)):
        Client(cluster.address, security=wrong, timeout=2)
    assert client.submit(operator.neg, 1).result(timeout=10) == -1


def test_plain_text_is_refused(cluster, client):
    with pytest.raises(OSError):
        Client(cluster.address.replace("tls://", "tcp://"), timeout=2)
    wait_until(lambda: client.submit(operator.neg, 2).result(timeout=10) == -2, "the cluster goes on")
