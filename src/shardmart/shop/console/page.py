"""The console's page as HTML: a frame that is sent once, and panels that are sent again every second.

Everything that is not a literal here is escaped.  Nothing here asks anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from .cluster import AWAY, OTHER, PRIMARY, Set
from .view import Answer, OrderLine, Picture

STEPS = {
    "order-placed": "placed",
    "order-changed": "changed",
    "stock-reserved": "reserved",
    "stock-refused": "refused",
    "payment-requested": "payment asked",
    "payment-captured": "paid",
    "payment-declined": "declined",
    "order-confirmed": "confirmed",
    "order-cancelled": "cancelled",
    "stock-released": "released",
    "payment-refunded": "refunded",
}
BAD = {"stock-refused", "payment-declined", "order-cancelled", "refund-declined"}
STATUSES = ("pending", "confirmed", "cancelled")


def frame(picture: Picture) -> str:
    """The whole page."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Shop console</title>
<link rel="stylesheet" href="/console.css">
<script src="/console.js" defer></script>
</head>
<body>
<a class="skip" href="#panels">Skip to the panels</a>
<header><h1>Shop</h1><p id="age" role="status">live</p><button id="pause" aria-pressed="false">Pause</button></header>
<main id="panels">{panels(picture)}</main>
</body>
</html>
"""


def panels(picture: Picture) -> str:
    """What changes."""
    parts = (_well(picture), _faults(picture.faults), _orders(picture), _lines(picture.orders), _stock(picture))
    return "".join([*parts, _cluster(picture.sets), _services(picture)])


def _panel(id_: str, title: str, body: str) -> str:
    return f'<section id="{id_}" aria-labelledby="{id_}-title"><h2 id="{id_}-title">{title}</h2>{body}</section>'


def _well(picture: Picture) -> str:
    problems = picture.problems
    if not problems:
        count = sum(map(len, picture.services.values()))
        return _panel("well", "State", f'<p class="good">✓ all {count} instances are ready</p>')
    items = "".join(f"<li>✗ {escape(problem)}</li>" for problem in problems)
    return _panel("well", "State", f'<ul class="bad">{items}</ul>')


def _faults(faults: Iterable[str]) -> str:
    items = "".join(f"<li>⚡ {escape(fault)}</li>" for fault in faults)
    return _panel("faults", "Faults on purpose", f'<ul class="bad">{items}</ul>') if items else ""


def _cluster(sets: Iterable[Set]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(one.name)}</th><td>{', '.join(map(_member, one.roles.items()))}</td>"
        f"<td class='number'>{'' if one.documents is None else f'{one.documents:,}'}</td></tr>"
        for one in sets
    )
    head = "".join(f"<th scope='col'>{title}</th>" for title in ("Set", "Members"))
    head = f"<thead><tr>{head}<th scope='col' class='number'>Documents</th></tr></thead>"
    table = f'<div class="wide" tabindex="0" aria-label="Cluster"><table>{head}<tbody>{rows}</tbody></table></div>'
    return _panel("cluster", "Cluster", table) if rows else ""


def _member(member: tuple[str, str]) -> str:
    address, role = member
    look = "bad" if role in (AWAY, OTHER) else "good" if role == PRIMARY else "plain"
    return f"{escape(address)} <span class='{look}'>{escape(role)}</span>"


def _orders(picture: Picture) -> str:
    rates = "".join(
        f"<div><dt>{escape(name)} per second</dt><dd>{rate:.1f}</dd></div>" for name, rate in picture.rates.items()
    )
    if picture.by_status is None:
        return _panel(
            "orders", "Orders", f'<dl>{rates}</dl><p class="bad">the order service does not tell its counts</p>'
        )
    known: Mapping[str, int] = picture.by_status
    names = [*(s for s in STATUSES if s in known), *sorted(s for s in known if s not in STATUSES)]
    counts = "".join(f"<div><dt>{escape(name)}</dt><dd>{known[name]:,}</dd></div>" for name in names)
    return _panel("orders", "Orders", f"<dl>{rates}{counts}</dl>")


def _lines(orders: Iterable[OrderLine]) -> str:
    rows = "".join(
        f"<tr><th scope='row'><code>{escape(_short(line.order))}</code></th>"
        f"<td>{' → '.join(map(_step, line.steps))}</td></tr>"
        for line in orders
    )
    body = f"<table><tbody>{rows}</tbody></table>" if rows else "<p>No order since this page's server started.</p>"
    return _panel("lines", "Latest orders through the saga", body)


def _short(order: str) -> str:
    region, _, rest = order.partition(".")
    return f"{region} …{rest[-8:]}"


def _step(kind: str) -> str:
    word = escape(STEPS.get(kind, kind))
    return f'<span class="bad">{word}</span>' if kind in BAD else f"<span>{word}</span>"


def _stock(picture: Picture) -> str:
    if picture.low is None:
        return _panel("stock", "Low stock", '<p class="bad">the inventory service does not tell</p>')
    if not picture.low:
        return _panel("stock", "Low stock", '<p class="good">✓ nothing is low</p>')
    items = "".join(
        f"<tr><th scope='row'><code>{escape(str(item.get('product_id')))}</code></th>"
        f"<td class='number'>{escape(str(item.get('available')))}</td></tr>"
        for item in picture.low[:20]
    )
    more = f"<p>and {len(picture.low) - 20} more</p>" if len(picture.low) > 20 else ""
    head = "<thead><tr><th scope='col'>Product</th><th scope='col' class='number'>Left</th></tr></thead>"
    return _panel("stock", "Low stock", f"<table>{head}<tbody>{items}</tbody></table>{more}")


def _services(picture: Picture) -> str:
    rows = "".join(
        _row(service, answer, first=n == 0)
        for service, answers in picture.services.items()
        for n, answer in enumerate(answers)
    )
    head = "".join(
        f"<th scope='col'{' class=number' if number else ''}>{title}</th>"
        for title, number in (
            ("Service", False), ("Instance", False), ("State", False), ("Handled", True),
            ("Lag p50", True), ("Lag p99", True), ("Waiting", True), ("Parked", True),
        )
    )  # fmt: skip
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return _panel("services", "Services", f'<div class="wide" tabindex="0" aria-label="Services">{table}</div>')


def _row(service: str, answer: Answer, *, first: bool) -> str:
    state, look = ("ready", "good") if answer.ready else ("away" if answer.status is None else "not ready", "bad")
    status = answer.status or {}
    lag = status.get("lag_ms") or {}
    lanes = status.get("lanes") or []
    consumes = bool(lanes or status.get("events_handled"))
    numbers = (
        str(status.get("events_handled")) if consumes else "",
        _milliseconds(lag.get("p50")),
        _milliseconds(lag.get("p99")),
        str(sum(int(lane.get("pending") or 0) for lane in lanes)) if consumes else "",
        str(status.get("parked")) if consumes else "",
    )
    cells = "".join(f"<td class='number'>{escape(number)}</td>" for number in numbers)
    head = f"<th scope='row'>{escape(service) if first else ''}</th>"
    return f"<tr>{head}<td>{escape(answer.name)}</td><td class='{look}'>{state}</td>{cells}</tr>"


def _milliseconds(value: object) -> str:
    return f"{value:.0f} ms" if isinstance(value, int | float) else ""
