import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.auth.tokens import JwtProvider
from gateway.cli.main import main
from gateway.exchange import Call, Fields, Peer, Request

SECRET = "0123456789abcdef0123456789abcdef"
REST = """\
upstreams: {api: {targets: [http://127.0.0.1:9001]}}
routes: [{name: all, match: {path: /**}, upstream: api}]
"""


@pytest.fixture
def write(tmp_path):
    def write(provider):
        path = tmp_path / "routes.yaml"
        path.write_text(f"auth:\n  providers:\n    idp: {{type: jwt, {provider}}}\n{REST}")
        return str(path)

    return write


def minted(capsys, *argv):
    assert main(["token", *argv]) == 0
    return capsys.readouterr().out.strip()


async def identified(token, **settings):
    """What the gateway itself makes of the token."""
    headers = [(b"authorization", b"Bearer " + token.encode())]
    call = Call(Request("GET", b"/", Fields(headers), Peer("127.0.0.1", 1)), "id")
    return await JwtProvider("idp", **settings).identify(call)


async def test_the_gateway_accepts_its_own_token(write, capsys):
    config = write(f"secret: {SECRET}, algorithms: [HS256], issuer: 'https://i', audience: [a, b]")
    argv = [
        "--provider",
        "idp",
        "--sub",
        "u1",
        "--scope",
        "x y",
        "--role",
        "r1",
        "--role",
        "r2",
        "--claim",
        "tier=gold",
    ]
    token = minted(capsys, "-c", config, *argv)
    caller = await identified(
        token, key=SECRET.encode(), algorithms=["HS256"], issuer="https://i", audience=["a"], leeway=0
    )
    assert (caller.consumer, caller.scopes, caller.roles, caller.tier) == ("u1", {"x", "y"}, {"r1", "r2"}, "gold")


async def test_claims_go_where_the_provider_looks_for_them(write, capsys):
    claims = "{consumer: user.id, scopes: realm.scopes, roles: 'https://example.com/roles'}"
    config = write(f"secret: {SECRET}, algorithms: [HS512], claims: {claims}")
    token = minted(capsys, "-c", config, "--sub", "u1", "--scope", "x", "--role", "r")
    names = {"consumer": "user.id", "scopes": "realm.scopes", "roles": "https://example.com/roles"}
    caller = await identified(token, key=SECRET.encode(), algorithms=["HS512"], claims=names)
    assert (caller.consumer, caller.scopes, caller.roles) == ("u1", {"x"}, {"r"})


def test_a_claim_is_json_where_it_can_be(write, capsys):
    config = write(f"secret: {SECRET}, algorithms: [HS256]")
    argv = ["--claim", "n=3", "--claim", "list=[1]", "--claim", "text=a=b", "--claim", "deep.er=true"]
    whole = json.loads(minted(capsys, "-c", config, "--sub", "u", "--json", *argv))
    claims = whole["claims"]
    assert (claims["n"], claims["list"], claims["text"], claims["deep"]) == (3, [1], "a=b", {"er": True})
    assert jwt.decode(whole["token"], SECRET, ["HS256"]) == claims
    assert whole["algorithm"] == "HS256"


def test_a_token_lasts_as_long_as_asked(write, capsys):
    config = write(f"secret: {SECRET}, algorithms: [HS256]")
    claims = json.loads(minted(capsys, "-c", config, "--sub", "u", "--json", "--expires", "10m"))["claims"]
    assert claims["exp"] - claims["iat"] == 600


def pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("algorithm", "make"),
    [
        ("RS256", lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        ("ES256", lambda: ec.generate_private_key(ec.SECP256R1())),
        ("EdDSA", ed25519.Ed25519PrivateKey.generate),
    ],
)
async def test_with_a_private_key_for_a_provider_that_has_the_public_one(algorithm, make, write, capsys, tmp_path):
    key = make()
    (tmp_path / "private.pem").write_bytes(pem(key))
    (tmp_path / "public.pem").write_bytes(public_pem(key))
    config = write(f"key: public.pem, algorithms: [{algorithm}]")
    token = minted(capsys, "-c", config, "--sub", "u", "--private-key", str(tmp_path / "private.pem"))
    assert (await identified(token, key=key.public_key(), algorithms=[algorithm])).consumer == "u"


def test_a_providers_own_private_key_serves_as_well(write, capsys, tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "both.pem").write_bytes(pem(key))
    token = minted(capsys, "-c", write("key: both.pem, algorithms: [EdDSA]"), "--sub", "u")
    assert jwt.decode(token, key.public_key(), ["EdDSA"])["sub"] == "u"


def refused(capsys, *argv):
    assert main(["token", "--sub", "u", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gateway token: ")
    assert err.count("\n") == 1
    return err


def test_what_could_never_be_accepted_is_not_made(write, capsys, tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "public.pem").write_bytes(public_pem(key))
    (tmp_path / "other.pem").write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    config = write("key: public.pem, algorithms: [EdDSA]")
    assert "--private-key" in refused(capsys, "-c", config)
    assert "does not belong" in refused(capsys, "-c", config, "--private-key", str(tmp_path / "other.pem"))
    assert "no PEM private key" in refused(capsys, "-c", config, "--private-key", str(tmp_path / "public.pem"))
    assert "cannot read" in refused(capsys, "-c", config, "--private-key", str(tmp_path / "none.pem"))


@pytest.mark.parametrize(
    ("argv", "about"),
    [
        (["--provider", "ipd"], "no provider 'ipd'"),
        (["--claim", "nothing"], "is not K=V"),
        (["--claim", "sub.x=1"], "is no object"),
        (["--expires", "soon"], "--expires"),
        (["--private-key", "x.pem"], "takes no --private-key"),
    ],
)
def test_wrong_usage_is_one_line(argv, about, write, capsys):
    assert about in refused(capsys, "-c", write(f"secret: {SECRET}, algorithms: [HS256]"), *argv)


def test_without_providers_there_is_none_to_ask(tmp_path, capsys):
    path = tmp_path / "routes.yaml"
    path.write_text(REST)
    assert "which provider?" in refused(capsys, "-c", str(path))


def test_the_keys_of_a_set_are_their_issuers(write, capsys):
    for keys in ("jwks: https://idp.example/keys", "discovery: true, issuer: https://idp.example"):
        assert main(["token", "-c", write(f"{keys}, algorithms: [RS256]"), "--sub", "ada"]) == 2
        assert "its issuer makes its tokens" in capsys.readouterr().err
