"""Who a peer is: certificates, signatures, and what is said of those that are wrong."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from mpcprof.engine.hosts import gate
from mpcprof.engine.hosts.certificates import is_signed_by, make_certificates, sign
from mpcprof.engine.hosts.gate import Gate, is_hello
from mpcprof.engine.hosts.party_file import PartyFile, TlsFiles, read_party_file
from mpcprof.engine.hosts.peer import Peer, _failed_handshake
from mpcprof.errors import UsageError

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="there is no command openssl here"
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder, ["party0", "party1"])
    return folder


def tls_of(folder, name):
    paths = (folder / f"{name}.pem", folder / f"{name}.key", folder / "authority.pem")
    certificate, key, authority = map(str, paths)
    return TlsFiles(certificate=certificate, key=key, authority=authority)


@contextlib.contextmanager
def listening(tls):
    """A server as brpc's: TLS with a certificate of ours, or plain without one."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            while tls is None:
                connection.close()
                connection, _ = server.accept()
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(tls.certificate, tls.key)
                context.load_verify_locations(tls.authority)
                context.verify_mode = ssl.CERT_REQUIRED
                connection = context.wrap_socket(connection, server_side=True)
                ended.wait()
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1], ended
    finally:
        ended.set()
        server.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        server.close()
        thread.join()


def peer_at(port, tls, limit_s=15.0, **more):
    addresses = ("127.0.0.1:1", f"127.0.0.1:{port}")
    return Peer(
        PartyFile(rank=0, addresses=addresses, tls=tls), 1, limit_s=limit_s, **more
    )


def test_a_peer_with_its_own_certificate_is_reached_until_it_ends(certificates):
    own = tls_of(certificates, "party0")

    with listening(tls_of(certificates, "party1")) as (port, ended):
        peer = peer_at(port, own)

        assert peer.is_alive()
        assert peer.is_reached
        assert peer.certificate == (certificates / "party1.pem").read_text()
        ended.set()
        while peer.is_alive():
            pass

    assert "is gone: it was stopped" in str(peer.died())
    peer.close()


@pytest.fixture(scope="module")
def foreign(certificates, tmp_path_factory):
    """TLS files of who should not be party 1, and what is said of them."""
    other = tmp_path_factory.mktemp("other")
    make_certificates(other, ["party1"])
    old = tmp_path_factory.mktemp("old") / "certificates"
    shutil.copytree(certificates, old)
    words = f"-in {old}/asked -CA {old}/authority.pem -CAkey {old}/authority.key"
    for command in (
        f"req -new -key {old}/party1.key -subj /CN=party1 -out {old}/asked",
        f"x509 -req {words} -days -1 -out {old}/party1.pem",
    ):
        subprocess.run(
            ["openssl", *command.split()], check=True, stderr=subprocess.DEVNULL
        )
    return {
        "authority": (tls_of(other, "party1"), "shows a certificate that is refused"),
        "expired": (tls_of(old, "party1"), "certificate has expired"),
        "another": (tls_of(certificates, "party0"), "the certificate of 'party0'"),
        "plain": (None, "it speaks no TLS, or does not accept ours"),
    }


@pytest.mark.parametrize("who", ["authority", "expired", "another", "plain"])
def test_who_is_not_the_peer_is_refused_in_one_line(certificates, foreign, who):
    tls, reason = foreign[who]

    with listening(tls) as (port, _):
        now_s = [0.0]
        peer = peer_at(port, tls_of(certificates, "party0"), clock=lambda: now_s[0])

        assert peer.is_alive() == (tls is None)  # what is behind the port may start yet
        now_s[0] = 15.0
        assert not peer.is_alive()

    assert not peer.is_reached
    assert reason in str(peer.died())
    assert "\n" not in str(peer.died())


def test_a_peer_that_refuses_our_certificate_is_said_to(certificates, foreign):
    tls, _ = foreign["authority"]

    with listening(tls_of(certificates, "party1")) as (port, _):
        peer = peer_at(
            port, replace(tls, authority=str(certificates / "authority.pem"))
        )

        assert not peer.is_alive()

    assert "does not accept our certificate" in str(peer.died())


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "something changes it on the way"),
        ("TLSV1_ALERT_DECRYPT_ERROR", "something changes it on the way"),
        ("TLSV1_ALERT_UNKNOWN_CA", "does not accept our certificate"),
        ("WRONG_VERSION_NUMBER", "it speaks no TLS"),
        ("", "it speaks no TLS"),
    ],
)
def test_a_handshake_that_fails_is_put_into_words(reason, said):
    assert said in _failed_handshake(reason)


def test_a_peer_that_never_comes_is_waited_for_as_long_as_the_file_says():
    now_s = [0.0]
    party_file = PartyFile(rank=0, addresses=("127.0.0.1:1", "127.0.0.1:2"))
    peer = Peer(
        party_file, 1, limit_s=60.0, limit_name="wait_limit", clock=lambda: now_s[0]
    )

    assert peer.is_alive()
    now_s[0] = 61.0
    assert not peer.is_alive()
    assert "did not come within 60 s (Connection refused)" in str(peer.died())
    assert "or raise wait_limit in the party file" in str(peer.died())


def test_a_host_that_listens_and_says_nothing_may_come_yet(certificates, monkeypatch):
    monkeypatch.setattr("mpcprof.engine.hosts.peer._TRY_S", 0.02)
    now_s = [0.0]

    with socket.create_server(("127.0.0.1", 0)) as server:
        port, own = server.getsockname()[1], tls_of(certificates, "party0")
        peer = peer_at(port, own, limit_s=60.0, clock=lambda: now_s[0])

        assert peer.is_alive()
        now_s[0] = 61.0
        assert not peer.is_alive()

    assert "within 60 s (it listens and says nothing: it may not" in str(peer.died())


def test_a_signature_is_of_one_key_and_one_text(certificates):
    signature = sign(str(certificates / "party1.key"), b"run 1")
    own, other = ((certificates / f"party{i}.pem").read_text() for i in (1, 0))

    assert is_signed_by(own, b"run 1", signature)
    assert not is_signed_by(own, b"run 2", signature)
    assert not is_signed_by(other, b"run 1", signature)


def test_certificates_are_never_written_over(certificates):
    before = (certificates / "authority.key").read_bytes()

    with pytest.raises(UsageError, match="has an authority already"):
        make_certificates(certificates, ["party0"])

    assert (certificates / "authority.key").read_bytes() == before


def test_the_gate_passes_on_tls_and_nothing_else(certificates):
    own, other = (tls_of(certificates, f"party{i}") for i in (0, 1))
    place = socket.create_server(("127.0.0.1", 0))
    port = place.getsockname()[1]
    place.close()
    own_gate = Gate(("127.0.0.1", port))
    inner = int(own_gate.inner_address.rpartition(":")[2])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other.certificate, other.key)

    def serve(server):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with (
                    contextlib.suppress(OSError),
                    connection,
                    context.wrap_socket(connection, server_side=True) as secured,
                ):
                    secured.sendall(b"hello")

    def dial():
        return socket.create_connection(("127.0.0.1", port), timeout=5)

    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(own.authority)
    heard = []

    def greet():
        with client.wrap_socket(dial()) as secured:
            heard.append(secured.recv(5))

    plain = dial()
    plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
    early = threading.Thread(target=greet)
    early.start()
    time.sleep(0.05)  # who comes before the party listens is held, not refused
    with socket.create_server(("127.0.0.1", inner)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        early.join()
        greet()
        assert heard == [b"hello", b"hello"]
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(1) == b""
        plain.close()
    own_gate.close()


def test_a_hello_is_what_brpc_takes_for_tls():
    assert is_hello(b"\x16\x03\x01\x02\x00\x01")
    assert not is_hello(b"\x16\x03\x01\x02\x00\x02")  # which brpc reads as plain
    assert not is_hello(b"\x16\x03\x01")
    assert not is_hello(b"GET / ")


@pytest.mark.parametrize(
    ("key", "file", "reason"),
    [
        ("key", "party1.key", r"party1.key': key values mismatch; expected"),
        ("key", "junk", "junk': cannot be read; expected a certificate and its own"),
        ("key", "locked.key", "without a password"),
        ("authority", "junk", "tls.authority = .*: no certificate or crl found"),
    ],
)
def test_tls_files_that_do_no_good_are_refused_with_the_party_file(
    certificates, tmp_path, key, file, reason
):
    folder = shutil.copytree(certificates, tmp_path / "own")
    (folder / "junk").write_text("no key")
    words = f"ec -in {folder}/party0.key -aes128 -passout pass:a -out"
    subprocess.run(
        ["openssl", *words.split(), f"{folder}/locked.key"],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    files = {"certificate": "party0.pem", "key": "party0.key"}
    files |= {"authority": "authority.pem", key: file}
    lines = ["rank = 0", 'addresses = ["a:1", "b:1"]', "[tls]"]
    path = folder / "party.toml"
    path.write_text("\n".join(lines + [f"{k} = {v!r}" for k, v in files.items()]))

    with pytest.raises(UsageError, match=reason) as caught:
        read_party_file(path)

    assert "\n" not in str(caught.value)


def test_a_folder_that_was_there_keeps_its_mode_and_keys_are_private(tmp_path):
    tmp_path.chmod(0o755)

    make_certificates(tmp_path, ["a"])
    make_certificates(tmp_path / "new", ["a"])

    modes = [path.stat().st_mode & 0o777 for path in (tmp_path, tmp_path / "new")]
    assert modes == [0o755, 0o700]
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="names a, a: expected each party's own"):
        make_certificates(tmp_path / "twice", ["a", "a"])


def test_a_gate_goes_on_where_who_dialled_is_gone(monkeypatch):
    let_in = []
    answers = iter([ConnectionAbortedError(), ("outer", None), KeyboardInterrupt()])

    class Server:
        def accept(self):
            answer = next(answers)
            if isinstance(answer, BaseException):
                raise answer
            return answer

    monkeypatch.setattr(gate, "_in_thread", let_in.append)
    with pytest.raises(KeyboardInterrupt):
        gate._serve(Server(), 1)

    assert [one.args for one in let_in] == [("outer", 1)]
