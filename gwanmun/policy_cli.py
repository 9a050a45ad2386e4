"""`gwanmun policy`: the offline commands of `policy.cli`, and `sign`, which needs COSE and so cannot live there."""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gate_agent import policy_file
from policy import cli

CURVES = ("secp256r1", "secp384r1", "secp521r1")


def main(argv: Sequence[str]) -> int:
    return cli.main(argv, more=(_add_sign,))


def _add_sign(commands: Any) -> argparse.ArgumentParser:
    sign: argparse.ArgumentParser = commands.add_parser(
        "sign",
        help="쓸 수 있는 문서에 서명합니다(FILE.sig) / sign a usable document, into FILE.sig",
        description="서명된 규칙만 받는 게이트를 위해 FILE.sig를 만듭니다. 잠긴 열쇠면 암호를 묻습니다 / "
        "makes FILE.sig for gates that take signed rules only; asks for the password of a locked key",
    )
    sign.add_argument("file", type=Path, metavar="FILE")
    sign.add_argument(
        "--key", type=Path, required=True, metavar="PEM", help="담당자의 개인키 / the officer's private key"
    )
    sign.set_defaults(run=_sign)
    return sign


def _sign(arguments: argparse.Namespace, stream: TextIO, _now: Callable[[], datetime]) -> int:
    raw, policy = cli.read(arguments.file)
    target = policy_file.signature_path(arguments.file)
    made = policy_file.sign(raw, _key(arguments.key))
    part = target.with_name(target.name + ".part")
    part.write_bytes(made)
    part.replace(target)
    if arguments.json:
        cli.dump(stream, {"signed": str(target), "version": policy.version})
    else:
        cli.say(stream, f"서명했습니다. 버전 {policy.version}: {target}", f"Signed. Version {policy.version}: {target}")
    return cli.EXIT_OK


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    pem = path.read_bytes()
    password = None
    if b"ENCRYPTED" in pem:
        password = os.fsencode(getpass.getpass(f"{path.name} 암호 / password: "))
    try:
        key = load_pem_private_key(pem, password)
    except (ValueError, TypeError):
        raise cli.UsageError(
            f"{path}: 읽을 수 있는 PEM 개인키가 아닙니다", f"{path}: no readable PEM private key"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise cli.UsageError(
            f"{path}: P-256, P-384, P-521 열쇠여야 합니다", f"{path}: a key on P-256, P-384 or P-521 is expected"
        )
    return key
