"""Runner: trains a network on any iterable of ``(X, y)`` batches, and keeps its best weights by dev score."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lab.device import Clock, autocast, memory_format, network_format, resolve, transfer
from lab.hidden_state import State, hidden_state, load_hidden_state, own_sources
from lab.measure import Macs
from lab.metrics import Errors, Metric, Scores, source_of
from lab.mismatches import one_example_told, sparse_gradients_told
from lab.optim import learning_rates, needs_closure, set_mode
from lab.outputs import Loss, logits_of, tensors_of
from lab.progress import Diverged, Interrupted, SplitResult, TrainingProgress, Undefined, is_sound
from lab.result import Evaluation
from lab.returned import finite, mean_loss, with_gradient
from lab.schedules import Scheduler
from lab.scores import declared, snake_case
from lab.selection import Selection
from lab.streams import generators, restore_generators
from lab.weights import copied_weights, load_module_state, load_weights, module_state, save_weights

Loader = Iterable[tuple[Tensor, Tensor]]


def _always_go_on() -> bool:
    return False


class Runner:
    """Trains and evaluates one network on one device.

    ``loss_fn(output, y)`` returns the mean loss of a batch from all that the network returns; ``metric`` has reset,
    update, and compute or accumulate, and gets the logits (:func:`lab.outputs.logits_of`, of ``num_classes`` where that
    is given). The best epoch is that of ``selection``, by default of the metric, the highest unless its class says that
    lower is better. ``example_loss(output, y)`` gives the losses ``(N,)`` of a batch's examples, where asked for.
    An optimizer whose ``step`` needs a closure gets one, and asks for the loss as often as it likes.
    ``schedule(step)`` is what the optimizer's learning rates are multiplied by; a :class:`lab.schedules.Scheduler` sets
    them itself. The loop never waits for the device: losses are summed there and read at each evaluation, where one
    that is not finite is found, too.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_fn: Loss,
        metric: Metric | Scores,
        device: str | torch.device = "auto",
        *,
        precision: str = "float32",
        clip_norm: float | None = None,
        schedule: Callable[[int], float] | Scheduler | None = None,
        num_classes: int | None = None,
        selection: Selection | None = None,
        example_loss: Loss | None = None,
    ) -> None:
        self.device = resolve(device)
        model.to(self.device, memory_format=network_format(self.device, model))  # type: ignore[call-overload]  # torch's types lack it
        self.model = model
        self.optimizer, self.loss_fn, self.example_loss = optimizer, loss_fn, example_loss
        self.scores = metric if isinstance(metric, Scores) else Scores({snake_case(type(metric).__name__): metric})
        self.scores.to(self.device)
        self.selection = selection or self._default_selection()
        self.precision, self.clip_norm = precision, clip_norm
        self._layout = memory_format(self.device, precision, model)
        self.scheduler = schedule if isinstance(schedule, Scheduler) else None
        self.factor = None if isinstance(schedule, Scheduler) else schedule
        self.num_classes = num_classes
        self.progress = TrainingProgress(select=self.selection.name, sign=self.selection.sign)
        self.best_weights: dict[str, Tensor] = {}
        self._best_hidden: State = {}  # what the network keeps beside them
        self.best_correct: Tensor | None = None  # which images of dev the best weights predict right
        self.macs: Macs | None = None  # per image, where whoever made the network counted them
        self.compile_error: str | None = None  # why a network that was to be compiled runs as it is
        self._rates = [] if self.factor is None else learning_rates(optimizer)
        self._takes_closure = needs_closure(optimizer)
        self._clock = Clock(self.device)
        self._loss_sum = torch.zeros((), device=self.device)
        self._loss_steps = 0
        parts = [*model.modules(), *self._roots().values()]
        self._start = hidden_state(own_sources({getattr(one, "__module__", "") for one in parts}))

    def _default_selection(self) -> Selection:
        name, metric = next(iter(self.scores.metrics.items()), ("accuracy", None))
        return Selection(f"dev_{name}", "lower" if declared(metric).better == "lower" else "higher")

    # --- training ---------------------------------------------------------------------------------------------------

    def train(
        self,
        train_loader: Loader,
        dev_loader: Loader,
        num_epochs: int,
        log_steps: int | None = None,
        eval_steps: int | None = None,
        save_path: str | Path | None = None,
        *,
        on_evaluation: Callable[[Evaluation], None] = lambda point: None,
        on_log: Callable[[int, float], None] = lambda step, loss: print(f"step {step}: loss {loss:.4f}"),
        should_stop: Callable[[], bool] = _always_go_on,
    ) -> list[Evaluation]:
        """Trains up to ``num_epochs`` and returns the curve; after ``load_state`` it resumes from there.

        Dev is evaluated before the first step, every ``eval_steps`` (default: after each epoch) and after the last
        step. The best weights by dev score are kept, and written to ``save_path`` if given. ``log_steps`` reads the
        loss that often, which waits for the device. Raises :class:`Diverged`, :class:`Interrupted`, and
        :class:`Undefined` where no evaluation gave a finite selecting score.
        """
        at = self.progress
        if not at.curve:
            self._evaluate_dev(dev_loader, 0.0, on_evaluation)
        self._raise_if_diverged()  # before it stopped, where a state was loaded
        while at.epoch < num_epochs:
            batches = self._epoch(train_loader)
            epoch_done = False
            while not epoch_done:
                try:
                    with self._clock.running():
                        epoch_done = self._train_until_due(batches, log_steps, eval_steps, on_log, should_stop)
                finally:
                    at.train_seconds = self._clock.seconds
                if epoch_done:
                    self._end_epoch()
                due = at.epoch == num_epochs or (epoch_done if eval_steps is None else at.step % eval_steps == 0)
                if due and at.step > at.curve[-1].step:
                    self._evaluate_dev(dev_loader, self._position(train_loader), on_evaluation)
        self._raise_if_undefined()
        if save_path is not None:
            save_weights(self.best_weights, Path(save_path))
        return at.curve

    def _epoch(self, loader: Loader) -> Iterator[tuple[Tensor, Tensor]]:
        """Returns the batches of the current epoch that are yet to come."""
        at = self.progress
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(at.epoch)
        return itertools.islice(loader, at.batch, None)

    def _end_epoch(self) -> None:
        at = self.progress
        if not at.batch:
            raise ValueError(f"the train loader gave no batches in epoch {at.epoch + 1}: it must be iterable again")
        at.epoch, at.batch = at.epoch + 1, 0
        if self.scheduler is not None:
            self.scheduler.epoch_done()

    def _train_until_due(
        self,
        batches: Iterator[tuple[Tensor, Tensor]],
        log_steps: int | None,
        eval_steps: int | None,
        on_log: Callable[[int, float], None],
        should_stop: Callable[[], bool],
    ) -> bool:
        """Steps until an evaluation is due (False) or the epoch is exhausted (True)."""
        at = self.progress
        self.begin_training()
        for X, y in batches:
            if should_stop():  # before a step, so that no evaluation that is due is left out
                raise Interrupted
            self.step(X, y)
            at.batch, at.step, at.images = at.batch + 1, at.step + 1, at.images + len(y)
            if log_steps is not None and at.step % log_steps == 0:
                on_log(at.step, float(self._loss_sum) / self._loss_steps)
            if eval_steps is not None and at.step % eval_steps == 0:
                return False
        return True

    def begin_training(self) -> None:
        """Puts network and optimizer into training mode."""
        self.model.train()
        set_mode(self.optimizer, training=True)

    def begin_evaluation(self) -> None:
        """Puts network and optimizer into evaluation mode."""
        self.model.eval()
        set_mode(self.optimizer, training=False)

    def moved(self, X: Tensor) -> Tensor:
        """Brings a batch to the device, images in the layout that the network takes; waits for nothing."""
        return transfer(X, self.device, self._layout)

    def step(self, X: Tensor, y: Tensor) -> None:
        """Takes one training step on a batch, in whatever mode the network is; waits for nothing."""
        X, y = self.moved(X), transfer(y, self.device)
        if self.factor is not None:
            factor = finite(self.factor(self.progress.step), self.factor, f" at step {self.progress.step}")
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=False):
                group["lr"] = rate * factor
        if self._takes_closure:
            loss = self._step_with_closure(X, y)
        else:
            loss = self.gradients(X, y)
            with sparse_gradients_told(self.model, "optimizer.name"):
                self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.scheduler is not None:
            self.scheduler.step_done()
        self._loss_sum += loss
        self._loss_steps += 1

    def gradients(self, X: Tensor, y: Tensor) -> Tensor:
        """Adds the gradients of a batch's loss to the parameters, clipped together; returns the loss."""
        with autocast(self.device, self.precision):
            with one_example_told():
                output = self.model(X)
            loss = mean_loss(self.loss_fn(output, y), self.loss_fn)
        loss = with_gradient(loss, self.loss_fn, tensors_of(output))
        loss.backward()
        if self.clip_norm is not None:
            groups = self.optimizer.param_groups
            with sparse_gradients_told(self.model, "train.clip_norm"):
                nn.utils.clip_grad_norm_([one for group in groups for one in group["params"]], self.clip_norm)
        return loss.detach()

    def _step_with_closure(self, X: Tensor, y: Tensor) -> Tensor:
        """Returns the first of the losses that the optimizer asks for: that before the step."""
        losses: list[Tensor] = []

        @torch.enable_grad()
        def closure() -> Any:  # torch asks for a float, and takes a tensor as its own examples do
            self.optimizer.zero_grad(set_to_none=True)
            losses.append(self.gradients(X, y))
            return losses[-1]

        self.optimizer.step(closure)
        if not losses:
            raise ValueError(f"{type(self.optimizer).__name__}.step must call the closure that it asks for")
        return losses[0]

    def _position(self, loader: Loader) -> float:
        """Epochs done, in fractions where the loader knows its length."""
        at = self.progress
        return at.epoch + (at.batch / len(loader) if at.batch and isinstance(loader, Sized) else 0)

    def _evaluate_dev(self, loader: Loader, epoch: float, on_evaluation: Callable[[Evaluation], None]) -> None:
        at = self.progress
        at.train_seconds = self._clock.seconds
        train_loss = float(self._loss_sum) / self._loss_steps if self._loss_steps else math.nan
        found = self.measure(loader)
        scores = {f"dev_{name}": value for name, value in found.scores.items()}
        at.curve.append(Evaluation(at.step, epoch, train_loss, at.train_seconds, scores))
        if at.best is at.curve[-1]:
            self.best_weights = copied_weights(self.model)
            self._best_hidden = self._hidden({"network": self.model})
            self.best_correct = found.correct
        self._loss_sum.zero_()
        self._loss_steps = 0
        if self.scheduler is not None and at.step:
            self.scheduler.evaluated(scores["dev_loss"], scores[self.selection.name])
        on_evaluation(at.curve[-1])
        self._raise_if_diverged()

    def _raise_if_diverged(self) -> None:
        last = self.progress.curve[-1]
        if last.step and not is_sound(last):
            losses = f"the mean training loss is {last.train_loss}, the dev loss {last.scores['dev_loss']}"
            raise Diverged(f"up to step {last.step} {losses}")

    def _raise_if_undefined(self) -> None:
        at = self.progress
        if at.best is None:
            gave = self._gave(at.select.removeprefix("dev_"), at.curve[-1].scores[at.select])
            count = f"none of {len(at.curve)} evaluations"
            raise Undefined(f"{at.select} is a finite number in {count}, although the loss is{gave}")

    def check_defined(self, split: str, scores: Mapping[str, float]) -> None:
        """Raises :class:`Undefined` where the user's metric or the selecting score is not finite, but the loss is."""
        for name in dict.fromkeys([self.selection.name.removeprefix("dev_"), *self.scores.metrics]):
            if not math.isfinite(scores[name]) and math.isfinite(scores["loss"]):
                gave = self._gave(name, scores[name])
                raise Undefined(f"{split}_{name} is not finite at the selected epoch, although the loss is{gave}")

    def _gave(self, name: str, value: float) -> str:
        metric = self.scores.metrics.get(name)
        return f": {source_of(metric)} gave {value}" if metric is not None else f": {value}"

    # --- evaluation -------------------------------------------------------------------------------------------------

    def evaluate(self, loader: Loader) -> float:
        """Computes the metric that selects, over all batches, in evaluation mode."""
        return self.measure(loader).scores[self.selection.name.removeprefix("dev_")]

    @torch.no_grad()
    def measure(self, loader: Loader, *, examples: bool = False) -> SplitResult:
        """Computes all scores over all batches, in evaluation mode, ``loss`` (mean per image) among them.

        With ``examples`` the loss of each example, where there is an ``example_loss``.
        """
        self.begin_evaluation()
        self.scores.reset()
        total, num_images = torch.zeros((), device=self.device), 0
        losses: list[Tensor] = []
        for X, y in loader:
            X, y = self.moved(X), transfer(y, self.device)
            with autocast(self.device, self.precision):
                output = self.model(X)
            self.scores.update(logits_of(output, len(y), self.num_classes), y)  # first: a loss may write into both
            with autocast(self.device, self.precision):
                if examples and self.example_loss is not None:
                    losses.append(self.example_loss(output, y))
                loss = mean_loss(self.loss_fn(output, y), self.loss_fn)
                total += loss.to(total.dtype) * len(y)  # in half precision the product would be rounded, or infinite
            num_images += len(y)
        if not num_images:
            raise ValueError("the loader gave no batches: it must be iterable again in each evaluation")
        scores = {"loss": float(total) / num_images} | self.scores.values()
        squares = self.scores.predictions.squares() if isinstance(self.scores.predictions, Errors) else None
        return SplitResult(scores, torch.cat(losses) if losses else None, self.scores.correct(), squares)

    @torch.no_grad()
    def predict(self, X: Tensor) -> Tensor:
        """Computes logits ``(N, num_classes)`` of a batch, in evaluation mode."""
        self.begin_evaluation()
        with autocast(self.device, self.precision):
            return logits_of(self.model(self.moved(X)), len(X), self.num_classes)

    # --- files ------------------------------------------------------------------------------------------------------

    def save_model(self, path: str | Path) -> None:
        """Writes the weights as they stand."""
        save_weights(self.model.state_dict(), Path(path))

    def load_model(self, path: str | Path) -> None:
        """Reads weights; only tensors are loaded, never code."""
        self.model.load_state_dict(torch.load(path, map_location=self.device, weights_only=True))

    def state(self) -> dict[str, Any]:
        """Returns a copy of all that ``load_state`` needs for training to go on as if it had not stopped.

        The batches are the loader's: where its order depends on the epoch alone, as that of ``lab.data.Batches`` does,
        the numbers are the same to the last bit.
        """
        at = self.progress
        at.train_seconds = self._clock.seconds
        cuda = [torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else []
        state = {
            "model": module_state(self.model),
            "loss": module_state(self.loss_fn) if isinstance(self.loss_fn, nn.Module) else None,
            "schedule": self.scheduler.state_dict() if self.scheduler else None,
            "best_weights": self.best_weights,
            "best_hidden": self._best_hidden,
            "best_correct": self.best_correct,
            "progress": asdict(at),
            "loss_sum": self._loss_sum,
            "loss_steps": self._loss_steps,
            "random": generators(),
            "random_cuda": cuda,
        }
        return copy.deepcopy(state) | {"hidden": self._hidden(self._roots())}  # training goes on to change the tensors

    def _roots(self) -> dict[str, Any]:
        return {"network": self.model, "loss": self.loss_fn, "optimizer": self.optimizer, "schedule": self.factor}

    def _hidden(self, roots: dict[str, Any]) -> State:
        return hidden_state(roots, self._elsewhere(), self._start)

    def _elsewhere(self) -> list[Tensor]:
        """Returns the tensors that network and loss save themselves."""
        parts = [part for part in (self.model, self.loss_fn) if isinstance(part, nn.Module)]
        return [tensor for part in parts for tensor in tensors_of(part.state_dict())]

    def restore_best(self) -> None:
        """Puts the network back as it was when dev was best."""
        load_weights(self.model, self.best_weights)
        load_hidden_state({"network": self.model}, self._best_hidden, self._elsewhere(), strict=False)

    def load_state(self, state: dict[str, Any], *, strict: bool = True) -> None:
        """Restores what ``state`` returned, in a Runner made as that one was.

        Raises :class:`lab.hidden_state.UnrestorableError` for what cannot be put back; without ``strict`` that stays.
        """
        state = copy.deepcopy(state)  # the optimizer would go on to change the tensors it is given
        load_module_state(self.model, state["model"])
        if isinstance(self.loss_fn, nn.Module):
            load_module_state(self.loss_fn, state["loss"])
        load_hidden_state(self._roots(), state["hidden"], self._elsewhere(), strict=strict)
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["schedule"])
        self.best_weights, self._best_hidden = state["best_weights"], state["best_hidden"]
        self.best_correct = state["best_correct"]
        curve = [Evaluation(**point) for point in state["progress"]["curve"]]
        self.progress = TrainingProgress(**{**state["progress"], "curve": curve})
        self._clock.seconds = self.progress.train_seconds
        self._loss_sum.copy_(state["loss_sum"])
        self._loss_steps = state["loss_steps"]
        restore_generators(state["random"])
        for random in state["random_cuda"]:
            torch.cuda.set_rng_state(random.cpu(), self.device)
