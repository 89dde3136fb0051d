# SPDX-License-Identifier: Apache-2.0
"""`seal` and `release propose|approve|show`: from a directory to k of n signatures over one payload.

Whoever signs here reads the payload first: `approve` verifies the author and prints what the approver agrees to, with
its bill. What is then allowed is decided by the control plane.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from firecurtain.artifact.seal import read_sealed, seal
from firecurtain.cli.access import read_signer
from firecurtain.cli.config import Config, read_config
from firecurtain.cli.operator import read_envelope_of, read_root, send_command
from firecurtain.cli.outcome import CommandRefused, show
from firecurtain.cli.shared import ConfigOption, JsonOption, guarded, wait
from firecurtain.terms import ConfigError, parse_digest
from firecurtain.trust.envelope import RELEASE_TYPE
from firecurtain.trust.release import Release, encode_release
from firecurtain.trust.release_toml import read_release_toml
from firecurtain.trust.sign import add_signature, sign_envelope
from firecurtain.trust.verify import compute_release_digest, count_approvals_missing, verify_proposal
from firecurtain.wire.commands import ApproveRelease, ProposeRelease, Status

AUTHOR = "author"

StoreOption = Annotated[Path, typer.Option(help="directory of sealed artifacts")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("seal")(guarded(seal_directory))
    group = typer.Typer(help="Propose, approve and show releases.", no_args_is_help=True)
    group.command()(guarded(propose))
    group.command()(guarded(approve))
    group.command("show")(guarded(show_releases))
    app.add_typer(group, name="release")


def seal_directory(
    directory: Annotated[Path, typer.Argument(metavar="DIR")], store: StoreOption, as_json: JsonOption = False
) -> None:
    """Copy a directory, checked and read-only, into a store under its digest."""
    sealed = seal(directory, store)
    result = {
        "ok": True,
        "digest": sealed.digest,
        "path": str(sealed.path),
        "manifest": str(sealed.manifest),
        "files": len(sealed.files),
        "tokens": list(sealed.tokens),
    }
    show(result, f"{sealed.digest}\n{sealed.path}\nflag tokens: {', '.join(sealed.tokens) or 'none'}", as_json)


def propose(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml")],
    artifact: Annotated[str, typer.Option(help="digest that `seal` printed")],
    store: StoreOption,
    key: Annotated[str, typer.Option(help="the author's key")] = AUTHOR,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a release as its author and propose it."""
    settings = read_config(config)
    author = read_signer(settings, key)
    release = read_release_toml(file, read_sealed(store, parse_digest(artifact)), author.keyid)
    if release.fleet != settings.fleet:
        raise ConfigError(f"{file} is for fleet {release.fleet}, configured is {settings.fleet}. Nothing was signed.")
    envelope = sign_envelope(encode_release(release), RELEASE_TYPE, [author])
    seq, _ = wait(send_command(settings, ProposeRelease(envelope)))
    digest = compute_release_digest(envelope)
    text = f"{digest}\nproposed at ledger_seq {seq}\n{describe(release)}"
    show({"ok": True, "release": digest, "ledger_seq": seq}, text, as_json)


def approve(
    digest: str,
    key: Annotated[list[str], typer.Option(help="an approver's key; may be given several times")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a proposed release as an approver."""
    settings = read_config(config)
    envelope, release = read_proposal(settings, digest)
    if not as_json:
        show({}, describe(release), as_json=False)
    for name in key:
        envelope = add_signature(envelope, RELEASE_TYPE, read_signer(settings, name))
    seq, _ = wait(send_command(settings, ApproveRelease(envelope)))
    missing = count_approvals_missing(envelope, read_root(settings))
    plural = "s" if missing > 1 else ""
    text = f"approved at ledger_seq {seq}, " + (f"{missing} more approval{plural} needed" if missing else "complete")
    show({"ok": True, "release": digest, "ledger_seq": seq, "approvals_missing": missing}, text, as_json)


def show_releases(
    digest: Annotated[str | None, typer.Argument()] = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show one release as it was signed, or the newest ones and how far they are."""
    settings = read_config(config)
    if digest is not None:
        _, release = read_proposal(settings, digest)
        show({"ok": True, "release": digest, "document": msgspec.to_builtins(release)}, describe(release), as_json)
        return
    _, status = wait(send_command(settings, Status()))
    releases: list[dict[str, Any]] = status["releases"]
    show({"ok": True, "releases": releases}, "\n".join(map(_describe_progress, releases)) or "no release yet", as_json)


def read_proposal(config: Config, digest: str) -> tuple[bytes, Release]:
    """The envelope of a proposed release, its author verified. Raises: CommandRefused: there is none."""
    envelope = wait(read_envelope_of(config, parse_digest(digest)))
    if not envelope:
        raise CommandRefused(
            "unknown-release", f"no release {digest} was proposed. Look at `firecurtain release show`.", 0
        )
    release = verify_proposal(envelope, read_root(config))
    if compute_release_digest(envelope) != digest:
        raise CommandRefused(
            "unknown-release", f"the control plane gave another release than {digest}. Sign nothing.", 0
        )
    return envelope, release


def describe(release: Release) -> str:
    """What an approver agrees to, and what one process of each node may spend."""
    limits = "; ".join(
        f"{name}: {limit.effects_per_cause} effects per cause, ${limit.gross_usd:,} a process"
        for name, limit in sorted(release.limits.items())
    )
    bill = sum(limit.gross_usd for limit in release.limits.values())
    stages = ", ".join(
        f"{stage.name} ({stage.nodes if stage.nodes == '*' else len(stage.nodes)})" for stage in release.stages
    )
    return (
        f"service {release.service} version {release.version}, artifact {release.artifact}\n"
        f"stages: {stages}; on_straggler {release.on_straggler}; min_nodes {release.min_nodes}\n"
        f"arms: {', '.join(release.arms) or 'nothing'}\n"
        f"limits: {limits}\n"
        f"at most ${bill:,} by the process of each node before it stops; a process started again begins at zero"
    )


def _describe_progress(release: dict[str, Any]) -> str:
    state = "approved" if release["complete"] else "waits for approvals"
    stages = f", stage {release['stages'][-1]}" if release["stages"] else ""
    armed = ", armed" if release["armed"] else ""
    return (
        f"{release['release']} {release['service']} v{release['version']} {state}{stages}{armed}, "
        f"at most ${release['bill_usd']:,} by one process of each node"
    )
