"""Certificates for trials, and signatures with a party's key, by the openssl command.

A company has an authority of its own; `make_certificates` stands in for one.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mpcprof.errors import EngineError, FileError, UsageError

_NEW_KEY: Final = (
    *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
)
_OF_A_PARTY: Final = "basicConstraints=critical,CA:FALSE\nkeyUsage=digitalSignature\n"


def make_certificates(
    folder: Path, names: Sequence[str], *, n_days: int = 30
) -> tuple[Path, ...]:
    """Make an authority, and a key and a certificate for each name.

    Whoever reads `authority.key` can be any party; each party gets its own key alone. A
    folder that is made is for its owner alone, as are keys in any.

    Returns:
        The certificates of the parties.

    Raises:
        UsageError: If the folder has an authority already, a name is no common name, or
            two are the same.
        FileError: If the folder cannot be written.
        EngineError: If there is no openssl command, or it fails.
    """
    if (folder / "authority.pem").exists():
        raise UsageError(f"{folder} has an authority already; name another folder")
    for name in names:
        if not name or set(name) & set("/=+,\n") or name == "authority":
            raise UsageError(
                f"{name!r} is no name for a party; expected such as party0"
            )
    if len({*names}) < len(names):
        raise UsageError(f"names {', '.join(names)}: expected each party's own")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot write {str(folder)!r}: {error.strerror}") from None
    days = ("-days", str(n_days))
    _openssl(
        *("req", "-x509", *_NEW_KEY, *days, "-subj", "/CN=mpcprof trial authority"),
        *("-keyout", str(folder / "authority.key")),
        *("-out", str(folder / "authority.pem")),
    )
    return tuple(_make_certificate(folder, name, days) for name in names)


def _make_certificate(folder: Path, name: str, days: Sequence[str]) -> Path:
    key, path = folder / f"{name}.key", folder / f"{name}.pem"
    with tempfile.TemporaryDirectory() as place:
        asked, extensions = Path(place) / "asked", Path(place) / "extensions"
        extensions.write_text(_OF_A_PARTY, encoding="utf-8")
        _openssl(
            *("req", *_NEW_KEY, "-subj", f"/CN={name}"),
            *("-keyout", str(key), "-out", str(asked)),
        )
        _openssl(
            *("x509", "-req", *days, "-in", str(asked), "-out", str(path)),
            *("-CA", str(folder / "authority.pem"), "-CAcreateserial"),
            *("-CAkey", str(folder / "authority.key"), "-extfile", str(extensions)),
        )
    return path


def sign(key: str, text: bytes) -> bytes:
    """Return the signature of a text by a private key in a file.

    Raises:
        EngineError: If the key cannot be used.
    """
    return _openssl("dgst", "-sha256", "-sign", key, given=text)


def is_signed_by(certificate: str, text: bytes, signature: bytes) -> bool:
    """Tell whether the owner of a certificate, given as PEM, signed a text."""
    with tempfile.TemporaryDirectory() as place:
        key, signed = Path(place) / "key", Path(place) / "signature"
        key.write_bytes(
            _openssl("x509", "-noout", "-pubkey", given=certificate.encode())
        )
        signed.write_bytes(signature)
        try:
            verify = ("-verify", str(key), "-signature", str(signed))
            _openssl("dgst", "-sha256", *verify, given=text)
        except EngineError:
            return False
    return True


def _openssl(*words: str, given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(
            ("openssl", *words), input=given, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise EngineError(
            "there is no command openssl, with which parties sign; install openssl"
        ) from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise EngineError(f"openssl {words[0]}: {lines[-1] if lines else 'failed'}")
    return done.stdout
