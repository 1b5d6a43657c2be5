"""`manage.py key`: lists our keys, and takes new ones into use."""

import datetime as dt
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from lineage import errors, keeper, keys, rotation
from lineage.management.commands._told import Told, operator

OVERLAP_HOURS = 720


class Command(Told):
    help = "key list · key rotate NAME: lists the keys; takes a new one into use beside the old one."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="every key: name, id, whether it is in force, vkey")
        rotate = actions.add_parser("rotate", help="a new key; the old one counts too for the overlap")
        rotate.add_argument("name", choices=keys.NAMES)
        rotate.add_argument("--overlap-hours", type=float, default=OVERLAP_HOURS)
        rotate.add_argument(
            "--public", type=Path, help="PEM file: public half of a key named by TOUCHSTONE_CHECKPOINT_SIGNER"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "list":
            for name in keys.NAMES:
                for each in keys.publics(name) if keys.was_made(name) else ():
                    self.stdout.write(f"{name:10} {each.key_id}  {state(each)}  {each.vkey}")
            return
        self.rotate(options["name"], options["overlap_hours"], options["public"])

    def rotate(self, name: str, overlap_hours: float, public: Path | None) -> None:
        if public and name != "checkpoint":
            raise errors.SettingsInvalid("Only the checkpoint key may lie elsewhere.")
        overlap = dt.timedelta(hours=max(0.0, overlap_hours))
        pem = public.read_bytes() if public else None
        new = rotation.rotate(name, overlap=overlap, who=operator(), public_pem=pem)
        self.stdout.write(new.vkey)
        told = "Give `bin/manage policy` to everyone who keeps a policy file"
        if name == "gateway":
            told = "Gateways take the new public key from the store"
        self.stderr.write(f"{told}; the old key counts until the overlap ends.")
        if name == "checkpoint":
            keeper.once()


def state(each: keys.Public) -> str:
    """In words: in use, until when it counts too, or since when no more."""
    if each.until is None:
        return "in use"
    until = f"{each.until:%Y-%m-%d %H:%M} UTC"
    return f"counts until {until}" if each.in_force else f"ended {until}"
