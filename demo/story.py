"""What happens in the demo, in order and in real time, and what the change desk is told meanwhile."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
import urllib.request

from demo.actors import Actors

BOB, CAROL, ERIN = "bob@shop.example", "carol@shop.example", "erin@shop.example"
WORKING_HOURS = ("Mon-Sun 13:00-21:00", "Mon-Sun 01:00-09:00")


def working_hours(now: dt.datetime) -> str:
    """Hours (UTC) that `now` is outside of by at least an hour, so that today's schema change is out of hours."""
    return WORKING_HOURS[0] if now.hour < 11 or now.hour >= 22 else WORKING_HOURS[1]


class Story:
    """Plays everything once. `service` goes on until `stop` is set."""

    def __init__(self, actors: Actors, desk_url: str, stop: threading.Event) -> None:
        self.actors = actors
        self.desk_url = desk_url
        self.stop = stop
        self.service = threading.Thread(target=actors.service, args=(stop,), daemon=True)

    def play(self) -> None:
        """About half a minute of work."""
        self.service.start()
        self.actors.support()
        self._good_approval()
        self._approved_customer()
        self._self_approval()
        self.actors.agent()
        self.actors.refused()
        self.actors.rolled_back()
        self._late_approval()
        self.actors.schema_change()
        self.actors.drop()
        self._missing_approval()
        self.actors.false_claim()
        self.actors.around()
        self._pause(3)

    def _good_approval(self) -> None:
        self._ask("OPS-42", BOB, "Payment PAY-008001 was charged twice")
        self._pause(1)
        self._decide("OPS-42", ERIN)
        self._pause(1)
        change = "update payments set amount = 49.90 where reference = 'PAY-008001'"
        self.actors.console("fix-amount", BOB, "OPS-42", "Correct the double charge", change)

    def _approved_customer(self) -> None:
        """The change of which an auditor asks who made it and who approved it."""
        self._ask("OPS-41", BOB, "Customer 4711 has married: her new name")
        self._decide("OPS-41", ERIN)
        self._pause(1)
        change = "update customers set name = 'Maria Bergman' where id = 4711"
        self.actors.console("new-name", BOB, "OPS-41", "New name after a marriage", change)

    def _self_approval(self) -> None:
        self._ask("OPS-43", BOB, "Goodwill refund")
        self._decide("OPS-43", BOB)
        self._pause(1)
        change = "update payments set amount = 0 where reference = 'PAY-000117'"
        self.actors.console("self-approved", BOB, "OPS-43", "Goodwill refund", change)

    def _late_approval(self) -> None:
        self._ask("OPS-44", ERIN, "Withdraw marketing consent of the imported customers")
        self.actors.bulk(ERIN, "OPS-44", "Consent withdrawn")
        self._pause(2)
        self._decide("OPS-44", CAROL)

    def _missing_approval(self) -> None:
        self._ask("OPS-45", BOB, "Remove an abusive note")
        self.actors.console("never-approved", BOB, "OPS-45", "Abusive note", "delete from notes where id = 2042")

    def _ask(self, request_id: str, by: str, reason: str) -> None:
        self._post("/requests", {"id": request_id, "by": by, "reason": reason})

    def _decide(self, request_id: str, by: str) -> None:
        self._post(f"/requests/{request_id}/decision", {"by": by, "approve": True})

    def _post(self, path: str, body: dict[str, object]) -> None:
        request = urllib.request.Request(self.desk_url + path, data=json.dumps(body).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=60):  # noqa: S310
            pass

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)
