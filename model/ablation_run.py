"""Planned rows of ablations to scores: each training is done once, or gone on with, and measured once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from codecprior.datasets.manifest import Manifest
from codecprior.errors import CodecpriorError

from .ablation import AblationTable, PlannedRow, PlannedRun
from .ablation_results import AblationResults, RowResult, TableResults, write_ablation
from .deblurrer import Deblurrer, load_deblurrer
from .evaluation import Evaluation
from .metrics import MetricsConfig
from .protocols import Protocol
from .results import BLURRY_INPUT, Results, write_results
from .scores import SequenceScores
from .training import StepReport, train
from .training_config import Phase2Config

__all__ = ["Ablation", "Bar"]

_SCORES: Final = "scores"
_BLURRY: Final = "blurry-input"
_DATASET: Final = "dvd"
"""What the paper's ablations were measured on."""

Bar = Callable[[str, str], AbstractContextManager[Callable[[int, int], None]]]
"""Takes what is done and what is counted; gives what is to be called with the number done and the total."""


class Ablation:
    """Trains and measures rows.

    Parameters
    ----------
    folder : pathlib.Path
        For tables, and ``results/RUN`` beside the trainings.
    manifest : Manifest
        The dataset that is trained on.
    test : Manifest
        The sequences that are measured.
    additional : Manifest, optional
        The additional dataset.
    protocol : Protocol
        How to measure.
    metrics : MetricsConfig
        What to measure.
    max_steps : int, optional
        Steps after which each training ends, even if it has more.
    bar : callable
        Shows how far something is.
    report : callable, optional
        Called with reports of the training.
    should_stop : callable, optional
        Asked after each step of a training and each frame that is measured; if it returns true, KeyboardInterrupt is
        raised, and a training has saved its state.
    """

    def __init__(
        self,
        *,
        folder: Path,
        manifest: Manifest,
        test: Manifest,
        additional: Manifest | None,
        protocol: Protocol,
        metrics: MetricsConfig,
        max_steps: int | None,
        bar: Bar,
        report: Callable[[StepReport], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._test = test
        self._additional = additional
        self._protocol = protocol
        self._metrics = metrics
        self._max_steps = max_steps
        self._bar = bar
        self._report = report
        self._should_stop = should_stop or (lambda: False)
        self._trained: set[str] = set()
        self._failed: dict[str, CodecpriorError] = {}
        self._results: dict[str, Results] = {}

    @cached_property
    def blurry(self) -> Results:
        """Scores of the blurry input."""
        evaluation = self._evaluation(_BLURRY)
        return self._written(_BLURRY, evaluation, self._scores(evaluation, None), {}, BLURRY_INPUT)

    def run(
        self,
        tables: Mapping[str, AblationTable],
        rows: Sequence[PlannedRow],
        facts: Mapping[str, Any],
        begin: Callable[[PlannedRow], None],
    ) -> AblationResults:
        """Train what rows need, if it is not trained yet, and measure them; files are written after each row.

        Parameters
        ----------
        tables : mapping of str to AblationTable
            Tables by name.
        rows : sequence of PlannedRow
            Rows of some of them, in their order.
        facts : mapping
            What the rows have in common, as JSON values.
        begin : callable
            Called with each row before anything is done for it.

        Returns
        -------
        AblationResults
            Scores of each row, or why there are none.

        Raises
        ------
        KeyboardInterrupt
            If it was told to stop.
        """
        blurry = self.blurry  # first: what cannot be measured is not worth a training
        done: dict[str, list[RowResult]] = {}
        for row in rows:
            begin(row)
            done.setdefault(row.table, []).append(self._result(row))
            found = [TableResults(table=tables[name], rows=each, blurry=blurry) for name, each in done.items()]
            results = AblationResults(tables=found, facts=facts)
            write_ablation(self._folder, results)
        return results

    def _result(self, row: PlannedRow) -> RowResult:
        if row.missing is not None:
            return RowResult(row=row, reason=row.missing)
        try:
            for run in row.runs:
                self._train(run)
            return RowResult(row=row, results=self._measure(row.run))
        except CodecpriorError as error:
            return RowResult(row=row, reason=str(error), failed=True)

    def _train(self, run: PlannedRun) -> None:
        if run.name in self._trained:
            return
        if (error := self._failed.get(run.name)) is not None:
            raise error
        try:
            with self._bar(f"train {run.name}", "step") as progress:
                train(
                    run.config,
                    self._manifest,
                    run.folder,
                    additional=self._additional if run.additional else None,
                    max_steps=self._max_steps,
                    resume=run.folder.exists(),
                    report=self._report,
                    progress=progress,
                    should_stop=self._should_stop,
                )
        except CodecpriorError as found:
            self._failed[run.name] = found
            raise
        self._trained.add(run.name)

    def _measure(self, run: PlannedRun) -> Results:
        if run.name not in self._results:
            sampling = run.config.sampling.to_dict() if isinstance(run.config, Phase2Config) else None
            deblurrer = load_deblurrer(run.folder, sampling=sampling)  # trainings do not depend on it
            evaluation = self._evaluation(run.name, str(deblurrer.device))
            facts = {"checkpoint": str(run.folder), "networks": deblurrer.facts}
            scores = self._scores(evaluation, deblurrer)
            self._results[run.name] = self._written(run.name, evaluation, scores, facts, run.name)
        return self._results[run.name]

    def _evaluation(self, name: str, device: str = "cpu") -> Evaluation:
        return Evaluation(self._test, self._protocol, self._metrics, self._folder / "results" / name / _SCORES, device)

    def _scores(self, evaluation: Evaluation, deblurrer: Deblurrer | None) -> list[SequenceScores]:
        with self._bar("measure", "frame") as progress:

            def show(done: int, total: int) -> None:
                progress(done, total)
                if self._should_stop():
                    raise KeyboardInterrupt

            return list(evaluation.scores(deblurrer, show))

    def _written(
        self, name: str, evaluation: Evaluation, scores: list[SequenceScores], facts: dict[str, Any], method: str
    ) -> Results:
        results = Results(
            protocol=self._protocol,
            opened=evaluation.opened,
            sequences=scores,
            method=method,
            run={"command": sys.argv, **facts, "data": self._test.root, "split": self._test.entries[0].split},
            dataset=_DATASET,
            blurry=self.blurry.sequences if facts else (),
        )
        write_results(self._folder / "results" / name, results)
        return results
