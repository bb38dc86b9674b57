"""Errors say what is wrong, and survive the way out of a child process."""

import pickle

import pytest

from executor import errors
from executor.protocol.cid import RAW, Cid

CID = Cid.of(RAW, b"")
SAMPLES = {
    "InsulaError": (errors.InsulaError(), "Insula could not do this."),
    "a message of its own": (errors.CarError("cut: here"), "cut: here"),
    "DiskFull": (errors.DiskFull(), "No space left for the block store."),
    "InvalidInput": (errors.InvalidInput("spec.image", "is missing"), "spec.image: is missing"),
    "BlockMissing": (errors.BlockMissing(CID), f"block {CID} is not here"),
    "BlockMismatch": (errors.BlockMismatch(CID, "peer"), f"peer: the bytes do not hash to {CID}"),
    "MalformedBlock": (errors.MalformedBlock(CID, "not dag-pb"), f"block {CID}: not dag-pb"),
    "MalformedBlock without a CID": (errors.MalformedBlock(None, "not dag-pb"), "not dag-pb"),
    "ContentTooLarge": (errors.ContentTooLarge("bytes", 5), "bytes: more than the limit of 5"),
    "UnsafeName": (errors.UnsafeName("a\x1b[2J", "refused"), "'a\\x1b[2J': refused"),
    "PathNotFound": (errors.PathNotFound(CID, "a/b"), f"{CID} has no entry 'a/b'"),
    "SourceChanged": (errors.SourceChanged("a\n"), "'a\\n': changed while it was being imported"),
}


@pytest.mark.parametrize(("error", "message"), SAMPLES.values(), ids=SAMPLES)
def test_an_error_says_what_is_wrong_before_and_after_pickling(error, message):
    assert str(error) == message
    assert str(pickle.loads(pickle.dumps(error))) == message
    assert isinstance(error, errors.InsulaError)


def test_a_class_without_a_docstring_is_its_own_message():
    class Odd(errors.InsulaError):
        pass

    assert str(Odd()) == "Odd"
