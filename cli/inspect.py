"""``codecprior inspect``: facts of a store or of one frame."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from codecprior.cli.output import count, size, table

if TYPE_CHECKING:
    from codecprior.core.priors import FramePriors

__all__ = ["inspect"]

_FLAGS: Final = ("skip", "merge", "affine", "geo", "ciip", "residual")
"""Shares of the area that overlap; the others add up to the whole."""


@click.command(short_help="Print facts of a store or of one of its frames.")
@click.argument("store", type=str)
@click.option(
    "--frame", "-n", metavar="N", type=int, help="Describe this frame, -1 the last, instead of the whole store."
)
@click.option("--reverse", is_flag=True, help="Look at the priors of the time-reversed pass.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(store: str, frame: int | None, reverse: bool, as_json: bool) -> None:
    """Print facts of STORE (a path or URL), or of one of its frames.

    \b
    codecprior inspect bikes.zarr
    codecprior inspect bikes.zarr --frame 10
    codecprior inspect bikes.zarr --json | jq .num_frames
    """
    from codecprior.errors import ConfigError
    from codecprior.store import open_store

    opened = open_store(store)
    if reverse:
        if opened.reverse is None:
            raise ConfigError(f"{store}: has no time-reversed pass; extract with --directions both")
        opened = opened.reverse
    if frame is None:
        facts = opened.info()
        lines = _store_lines(facts)
    else:
        if not -len(opened) <= frame < len(opened):
            raise ConfigError(f"{store}: frame {frame}: the store has frames 0 to {len(opened) - 1}")
        facts = _frame_facts(opened[frame])
        lines = _frame_lines(facts)
    click.echo(json.dumps(facts, indent=2) if as_json else "\n".join(lines))


def _frame_facts(frame: FramePriors) -> dict[str, Any]:
    """Summarise the priors of a frame as JSON values; shares are fractions of the picture's area."""
    import numpy as np

    from codecprior.core.arrays import CodingFlag, PredMode

    picture, flags, mode = frame.picture, frame.require("coding_flags"), frame.require("pred_mode")
    l0, l1 = frame.uses_list(0), frame.uses_list(1)
    units = frame.coding_units()
    facts: dict[str, Any] = {
        "frame": frame.frame_index,
        "size": list(frame.size),
        "picture_type": picture.picture_type.name,
        "poc": picture.poc,
        "decode_order": picture.decode_order,
        "cvs": picture.cvs,
        "pts_seconds": picture.pts_seconds,
        "slice_qp": picture.slice_qp,
        "coded_size_bytes": picture.coded_size_bytes,
        "has_priors": picture.has_priors,
        "lmcs": picture.lmcs,
        "coding_units": len(units),
        "area": {
            "intra": _share(mode == PredMode.INTRA),
            "inter_l0": _share(l0 & ~l1),
            "inter_l1": _share(l1 & ~l0),
            "inter_bi": _share(l0 & l1),
            "ibc": _share(mode == PredMode.IBC),
            **{flag.name.lower(): _share((flags & flag) != 0) for flag in CodingFlag if flag.name and flag < 64},
        },
        "reference_frames": {
            f"l{ref}": sorted({int(index) for index in np.unique(frame.ref_frame_index(ref)) if index >= 0})
            for ref in (0, 1)
        },
    }
    if (l0 | l1).any():
        length = np.linalg.norm(np.where(l0[..., None], frame.mv_pixels(0), frame.mv_pixels(1)), axis=-1)[l0 | l1]
        facts["mv_pixels"] = {"median": round(float(np.median(length)), 3), "max": round(float(length.max()), 3)}
    if picture.has_priors:
        facts["qp"] = {"min": int(frame.require("qp").min()), "max": int(frame.require("qp").max())}
    residual = frame.residual_y
    if residual is not None:
        facts["residual_y"] = {
            "nonzero": _share(residual != 0),
            "mean_abs": round(float(np.abs(residual.astype(np.int32)).mean()), 3),
            "min": int(residual.min()),
            "max": int(residual.max()),
        }
    return facts


def _share(mask: Any) -> float:
    return round(float(mask.mean()), 4)


def _store_lines(facts: dict[str, Any]) -> list[str]:
    width, height = facts["size"]
    frames = facts["num_frames"]
    coded_width, coded_height = facts["coded_size"]
    coded = "" if [width, height] == facts["coded_size"] else f" (coded {coded_width}x{coded_height})"
    source = facts.get("source", {})
    assumed = " (assumed)" if source.get("frame_rate_from") == "assumed" else ""
    rate = f", {facts['frame_rate']} frames/s{assumed}" if facts["frame_rate"] else ""
    encoder, decoder = facts.get("encoder"), facts.get("decoder")
    rows = [
        ("store", facts["location"]),
        ("frames", f"{frames}, {width}x{height}{coded}, {facts['bit_depth']} bit {facts['chroma_format']}{rate}"),
        ("size", f"{size(facts['stored_bytes'])} ({size(facts['stored_bytes'] / max(frames, 1))} a frame)"),
        ("source", f"{source.get('path', '?')} ({source.get('kind', '?')})"),
        ("encoder", _tool(encoder) if encoder else "none: the input was coded already"),
        ("decoder", _tool(decoder) if decoder else "?"),
        ("directions", ", ".join(facts["directions"])),
    ]
    if facts["concealed_frames"]:
        rows.append(("no priors", count(len(facts["concealed_frames"]), "frame") + " (concealed by the decoder)"))
    arrays = [
        (name, array["dtype"], "x".join(map(str, array["shape"])), size(array["stored_bytes"]))
        for name, array in facts["arrays"].items()
    ]
    return [*table(rows), "", *table([("array", "dtype", "shape", "stored"), *arrays])]


def _tool(tool: dict[str, Any]) -> str:
    return f"{tool.get('name', '?')} {tool.get('version', '')}".strip()


def _frame_lines(facts: dict[str, Any]) -> list[str]:
    shares = {name: f"{name.replace('_', ' ')} {share:.1%}" for name, share in facts["area"].items() if share}
    flags = ", ".join(share for name, share in shares.items() if name in _FLAGS)
    rows = [
        ("frame", f"{facts['frame']} ({facts['pts_seconds']:.3f} s), {facts['size'][0]}x{facts['size'][1]}"),
        ("picture", f"{facts['picture_type']}, POC {facts['poc']}, decode order {facts['decode_order']}"),
        ("coded", f"{size(facts['coded_size_bytes'])}, slice QP {facts['slice_qp']}"),
        ("coding units", str(facts["coding_units"])),
        ("prediction", ", ".join(share for name, share in shares.items() if name not in _FLAGS) or "no priors"),
    ]
    if flags:
        rows.append(("flags", flags))
    for ref, frames in facts["reference_frames"].items():
        if frames:
            rows.append((f"references {ref.upper()}", ", ".join(map(str, frames))))
    if "mv_pixels" in facts:
        rows.append(("motion", f"median {facts['mv_pixels']['median']} px, longest {facts['mv_pixels']['max']} px"))
    if "qp" in facts:
        rows.append(("QP", f"{facts['qp']['min']} to {facts['qp']['max']}"))
    if "residual_y" in facts:
        r = facts["residual_y"]
        rows.append(
            ("luma residual", f"{r['nonzero']:.1%} nonzero, mean |r| {r['mean_abs']}, {r['min']} to {r['max']}")
        )
    return table(rows)
