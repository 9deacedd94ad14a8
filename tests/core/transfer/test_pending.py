"""A transfer on its way, written down and read back."""

import json

import pytest
from pydantic import SecretStr

from firecrest_core.errors import TransferFailed
from firecrest_core.job import Job
from firecrest_core.transfer import PendingTransfer
from firecrest_core.transfer.pending import Parcel
from firecrest_core.transfer.sealed import seal, unseal

URL = SecretStr("https://s3.example/bucket/key?X-Amz-Signature=abcdef")


def test_sealed_and_unsealed() -> None:
    sealed = seal(URL, "secret")
    assert "s3.example" not in sealed
    assert unseal(sealed, "secret") == URL
    assert seal(URL, "secret") != sealed  # a nonce each time


def test_another_secret() -> None:
    with pytest.raises(TransferFailed, match="client secret has changed"):
        unseal(seal(URL, "secret"), "another")


def test_round_trip_without_a_url() -> None:
    pending = PendingTransfer(
        job=Job(system="rig", job_id="7", stdout="/o", stderr="/e"),
        parcel=Parcel(system="rig", local="a", remote="/r", carrier="/r", carrier_size=1, version="v"),
        sealed_url=seal(URL, "secret"),
    )
    text = json.dumps(pending.to_dict())
    assert "X-Amz" not in text + repr(pending)
    assert pending.sealed_url not in repr(pending)
    assert PendingTransfer.from_dict(json.loads(text)) == pending
