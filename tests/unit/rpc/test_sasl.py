from __future__ import annotations

import pytest

from rpc.sasl import Credentials, Plain, SaslFault, Scram, mechanism, preferred

WHO = Credentials("user", "pencil")
NONCE = "rOprNGfwEbeRWgbNEkqO"
CHALLENGE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
ANSWER = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
PROOF = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram() -> Scram:
    return Scram("SCRAM-SHA-256", WHO, lambda: NONCE)


def test_scram_says_what_rfc_7677_shows() -> None:
    proof = scram()
    assert proof.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert proof.answer(CHALLENGE) == ANSWER
    with pytest.raises(SaslFault, match="prove"):
        proof.check()
    assert proof.answer(PROOF) == b""
    proof.check()


def test_who_does_not_know_the_password_is_found_out() -> None:
    proof = scram()
    proof.answer(CHALLENGE)
    with pytest.raises(SaslFault, match="does not know the password"):
        proof.answer(b"v=" + b"A" * 43 + b"=")


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=***,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=99999999999",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=x",
        b"",
        b"\xff\xff",
    ],
)
def test_a_challenge_that_cannot_be_is_refused(challenge: bytes) -> None:
    with pytest.raises(SaslFault):
        scram().answer(challenge)


def test_names_with_signs_of_the_protocol_are_written_apart() -> None:
    assert Scram("SCRAM-SHA-1", Credentials("a=b,c", ""), lambda: "n").first() == b"n,,n=a=3Db=2Cc,r=n"


def test_plain_is_the_password() -> None:
    proof = mechanism("PLAIN", WHO)
    assert isinstance(proof, Plain)
    assert proof.first() == b"\0user\0pencil"
    proof.check()


def test_the_best_mechanism_is_taken() -> None:
    assert preferred(["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "GSSAPI"]) == "SCRAM-SHA-256"
    assert preferred(["DIGEST-MD5"]) is None


def test_a_password_is_not_shown() -> None:
    assert "pencil" not in repr(WHO)
