"""Pictures with titles and legends, set side by side under a heading: a sheet that explains itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from codecprior.core.priors import FramePriors
from codecprior.visualization.colormap import RGB
from codecprior.visualization.theme import Theme, blank

__all__ = ["Caption", "Tile", "compose"]

_MARGIN: Final = 16
_GUTTER: Final = 18
_TITLE_LINE: Final = 24
_LEGEND_GAP: Final = 9
_HEADER_LINE: Final = 24
_FACT_GAP: Final = 14


@dataclass(frozen=True)
class Tile:
    """One picture of a panel.

    Parameters
    ----------
    title : str
        Heading.
    picture : ndarray, shape (H, W, 3), uint8
        The picture at the size to show.
    legend : ndarray, shape (h, w, 3), uint8
        The strip that goes below.
    """

    title: str
    picture: RGB
    legend: RGB


@dataclass(frozen=True)
class Caption:
    """What the heading says about a frame.

    Parameters
    ----------
    name : str
        Name of the sequence.
    facts : tuple of (str, str)
        Texts, each with the widest text that can stand in its place, so that nothing moves in a clip.
    """

    name: str
    facts: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, priors: FramePriors, name: str, num_frames: int | None = None) -> Caption:
        """Collect the facts of a frame.

        Parameters
        ----------
        priors : FramePriors
            The frame; no arrays are needed.
        name : str
            Name of the sequence.
        num_frames : int, optional
            Length of the sequence, where known.

        Returns
        -------
        Caption
            Frame number from 0, picture type, POC, QP and size in bits.
        """
        picture, width = priors.picture, len(str(num_frames or priors.frame_index))
        total = "" if num_frames is None else f" of {num_frames}"
        facts = [
            (f"frame {priors.frame_index}{total}", f"frame {'0' * width}{total}"),
            (f"{picture.picture_type.name} picture", "B picture"),
            (f"POC {picture.poc}", f"POC {'0' * max(width, len(str(picture.poc)))}"),
        ]
        if picture.has_priors:
            facts += [(f"QP {picture.slice_qp}", "QP 00"), (f"{8 * picture.coded_size_bytes:,} bits", "000,000 bits")]
        else:
            facts.append(("concealed, no priors", ""))
        return cls(name, tuple(facts))

    def with_remark(self, remark: str) -> Caption:
        """Return the same caption with one more fact at its end."""
        return Caption(self.name, (*self.facts, (remark, "")))


def compose(caption: Caption, rows: Sequence[Sequence[Tile]], theme: Theme) -> RGB:
    """Set tiles into rows below a caption.

    Parameters
    ----------
    caption : Caption
        The heading.
    rows : sequence of sequence of Tile
        Tiles from top left to bottom right; all pictures of one size.
    theme : Theme
        The look.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        The panel. Its size depends on the sizes of pictures and legends only, never on the caption's texts.
    """
    margin, gutter = theme.px(_MARGIN), theme.px(_GUTTER)
    title_line, legend_gap = theme.px(_TITLE_LINE), theme.px(_LEGEND_GAP)
    column = max(max(tile.picture.shape[1], tile.legend.shape[1]) for row in rows for tile in row)
    columns = max(len(row) for row in rows)
    heights = [title_line + legend_gap + _tallest(row) for row in rows]
    header = theme.px(2 * _HEADER_LINE + 8)
    width = 2 * margin + columns * column + (columns - 1) * gutter
    sheet = blank(width, 2 * margin + header + sum(heights) + (len(rows) - 1) * gutter)
    _draw_caption(sheet[margin : margin + header, margin : width - margin], caption, theme)
    top = margin + header
    for row, height in zip(rows, heights, strict=True):
        for position, tile in enumerate(row):
            left = margin + position * (column + gutter)
            theme.title.draw(sheet, tile.title, left, top + (title_line - theme.title.height) // 2)
            _paste(sheet, tile.picture, left, top + title_line)
            _paste(sheet, tile.legend, left, top + title_line + tile.picture.shape[0] + legend_gap)
        top += height + gutter
    return sheet


def _tallest(row: Sequence[Tile]) -> int:
    return max(len(tile.picture) + len(tile.legend) for tile in row)


def _draw_caption(area: RGB, caption: Caption, theme: Theme) -> None:
    width = area.shape[1]
    theme.headline.draw(area, theme.headline.fit(caption.name, width), 0, 0)
    left, top = 0, theme.px(_HEADER_LINE)
    for text, widest in caption.facts:
        theme.muted.draw(area, theme.muted.fit(text, width - left), left, top)
        left += max(theme.muted.width(text), theme.muted.width(widest)) + theme.px(_FACT_GAP)


def _paste(sheet: RGB, picture: RGB, left: int, top: int) -> None:
    sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
