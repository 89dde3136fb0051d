# SPDX-License-Identifier: Apache-2.0
"""`node enrol|exclude|list` and `agent`: a host joins, leaves, and runs.

`node enrol` makes the node's key in the directory it is given; carry that directory to the host. The key never leaves
it; the control plane learns the public half.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from firecurtain.cli.config import Config, read_config
from firecurtain.cli.operator import send_command
from firecurtain.cli.outcome import show
from firecurtain.cli.shared import ConfigOption, JsonErrorOption, JsonOption, guarded, wait
from firecurtain.control.credentials import write_private
from firecurtain.terms import ConfigError, parse_name
from firecurtain.trust.keys import load_private_key, save_private_key
from firecurtain.wire.commands import EnrolNode, ExcludeNode, Status
from firecurtain.wire.keys import Ed25519Signer

REASON_CHARACTERS_MAX = 500
"""Source: `wire.messages.Text`."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(help="Enrol, exclude and list nodes.", no_args_is_help=True)
    group.command()(guarded(enrol))
    group.command()(guarded(exclude))
    group.command("list")(guarded(list_nodes))
    app.add_typer(group, name="node")
    app.command()(guarded(agent))


def enrol(
    name: str,
    service: Annotated[str, typer.Option(help="the service this node runs")],
    out: Annotated[Path, typer.Option(help="directory for agent.toml, key and root; made when missing")],
    store: Annotated[Path | None, typer.Option(help="sealed artifacts on the node (default: OUT/store)")] = None,
    runtime_dir: Annotated[Path | None, typer.Option(help="permit page on the node, on tmpfs")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Admit a node: make its key, enrol it, write everything its agent needs."""
    settings = read_config(config)
    parse_name(name)
    parse_name(service)
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = _make_key(out / "node.pem")
    root = settings.root.read_bytes()
    seq, broker = wait(send_command(settings, EnrolNode(name, service, key.public)))
    (out / "root.json").write_bytes(root)
    runtime = runtime_dir or Path(f"/dev/shm/firecurtain-{os.getuid()}/{settings.fleet}-{name}")  # noqa: S108 - 0700 below
    write_private(
        out / "agent.toml",
        _render(settings, name, service, store.resolve() if store else Path("store"), runtime, broker),
    )
    text = f"enrolled {name} at ledger_seq {seq}\nrun there: firecurtain agent --config {out / 'agent.toml'}"
    show({"ok": True, "node": name, "ledger_seq": seq, "agent_config": str(out / "agent.toml")}, text, as_json)


def exclude(
    name: str,
    reason: Annotated[str, typer.Option(help="why, for everybody who will read it")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a node out: it is stopped at once and counts no longer."""
    parse_name(name)
    if not 1 <= len(reason) <= REASON_CHARACTERS_MAX:
        raise ConfigError(
            f"--reason has {len(reason)} characters, it may have 1 to {REASON_CHARACTERS_MAX}. Nothing was sent. "
            "Do: give it again with another reason."
        )
    seq, _ = wait(send_command(read_config(config), ExcludeNode(name, reason)))
    text = (
        f"excluded {name} at ledger_seq {seq}\n"
        f"blocks: every guarded action on node {name}; still allows: nothing there, everything elsewhere"
    )
    show({"ok": True, "node": name, "ledger_seq": seq}, text, as_json)


def list_nodes(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the roster and what each node last attested."""
    _, status = wait(send_command(read_config(config), Status()))
    nodes: list[dict[str, Any]] = status["nodes"]
    rows = [describe_node(node) for node in nodes]
    hidden = status["nodes_total"] - len(nodes)
    rows += [f"and {hidden} more"] if hidden else []
    show({"ok": True, "nodes": nodes, "nodes_total": status["nodes_total"]}, "\n".join(rows) or "no node yet", as_json)


def describe_node(node: dict[str, Any]) -> str:
    """One node in one line."""
    artifact = node["artifact"][:12] if node["artifact"] else "nothing"
    age = f"{node['attested_ms_ago'] / 1000:.1f} s ago" if node["attested_ms_ago"] is not None else "never"
    state = "excluded" if node["excluded"] else node["verdict"]
    return f"{node['name']} ({node['service']}): {state}, attests {artifact}, {age}"


def agent(
    config: Annotated[Path, typer.Option(help="agent.toml that `node enrol` wrote")],
    as_json: JsonErrorOption = False,  # noqa: ARG001 - `guarded` reads it
) -> None:
    """Run a node's agent: it runs the service, proves what runs, and keeps its permit."""
    # Imported here: no other command pays for the agent.
    from firecurtain.agent import load_config, run

    raise typer.Exit(run(load_config(config)))


def _make_key(path: Path) -> Ed25519Signer:
    """The node's key: a new one, or the one an earlier attempt left."""
    return load_private_key(path) if path.exists() else save_private_key(path, secrets.token_bytes(32))


def _render(config: Config, name: str, service: str, store: Path, runtime_dir: Path, broker: dict[str, Any]) -> str:
    """agent.toml. JSON strings are TOML strings for everything that can stand here."""
    values = {
        "fleet": config.fleet,
        "service": service,
        "node": name,
        "root": "root.json",
        "node_key": "node.pem",
        "store": str(store),
        "state_dir": "state",
        "runtime_dir": str(runtime_dir),
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    access = [f"{key} = {json.dumps(broker[key])}" for key in ("url", "user", "password")]
    return "\n".join(["# Made by `firecurtain node enrol`. Holds a password.", *lines, "", "[bus]", *access, ""])
