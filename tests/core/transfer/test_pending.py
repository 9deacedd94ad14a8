"""A transfer on its way, written down and read back."""

import json

import pytest
from pydantic import SecretStr

from firecrest_core.errors import TransferFailed
from firecrest_core.jobs.job import Job
from firecrest_core.transfer import PendingTransfer
from firecrest_core.transfer.encryption import decrypt, encrypt
from firecrest_core.transfer.pending import TransferPlan

SECRET = SecretStr("secret")
URL = SecretStr("https://s3.example/bucket/key?X-Amz-Signature=abcdef")


def test_encrypted_and_decrypted() -> None:
    encrypted = encrypt(URL, SECRET)
    assert "s3.example" not in encrypted
    assert decrypt(encrypted, SECRET) == URL
    assert encrypt(URL, SECRET) != encrypted  # a nonce each time


def test_another_secret() -> None:
    with pytest.raises(TransferFailed, match="client secret has changed"):
        decrypt(encrypt(URL, SECRET), SecretStr("another"))


def test_round_trip_without_a_url() -> None:
    pending = PendingTransfer(
        job=Job(system="rig", job_id="7", stdout="/o", stderr="/e"),
        plan=TransferPlan(system="rig", local="a", remote="/r", transfer_path="/r", transfer_size=1, version="v"),
        encrypted_url=encrypt(URL, SECRET),
    )
    text = json.dumps(pending.to_dict())
    assert "X-Amz" not in text + repr(pending)
    assert pending.encrypted_url not in repr(pending)
    assert PendingTransfer.from_dict(json.loads(text)) == pending
