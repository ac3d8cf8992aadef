"""Who teaches, what is remembered of it, and what a pupil learns from it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import SMALL, accuracies, colours

from model_store import nets
from model_store.nets.staged import StagedNet
from model_store.store import encode_weights, weights_sha256
from model_store.training.checkpoint import load_average
from model_store.training.data import Rows
from model_store.training.teaching import TeacherEnsemble, last_logits, mirrored_logits
from model_store.training.train import Run


def test_a_teacher_must_be_trained_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train it first"):
        load_average(SMALL, tmp_path)
    Run(SMALL, colours(), tmp_path, compile_net=False).train_epoch()
    with pytest.raises(ValueError, match="train it first"):
        load_average(SMALL, tmp_path)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> StagedNet:
    folder = tmp_path_factory.mktemp("teacher")
    run = Run(SMALL, colours(), folder, compile_net=False)
    while not run.done:
        run.train_epoch()
    return load_average(SMALL, folder)


@pytest.mark.parametrize("once", [False, True])
def test_a_teacher_guides_asked_once_or_about_each_batch(
    once: bool, teacher: StagedNet, tmp_path: Path
) -> None:
    asked: list[int] = []
    hook = teacher.register_forward_hook(lambda net, images, logits: asked.append(len(images[0])))
    wrong = replace(colours(), labels=1 - colours().labels)
    recipe = SMALL.changed(teacher="small", teacher_weight=1.0, teacher_once=once)
    before = copy.deepcopy(teacher.state_dict())
    for _ in range(recipe.epochs):  # resumed after each epoch
        pupil = Run(recipe, wrong, tmp_path, compile_net=False, teacher=teacher)
        ready = len(asked)
        pupil.train_epoch()
        assert len(asked) - ready == (0 if once else 4)
    hook.remove()
    assert accuracies(pupil) == [1.0, 1.0]
    images = sum(count for count in asked if count > 1)  # one is for the number of classes
    assert images == (3 * 128 if once else 3 * 2 * 128)  # statistics, and both mirror images or batches
    assert pupil.made_from == {"teacher": weights_sha256(encode_weights(teacher))}
    torch.testing.assert_close(teacher.state_dict(), before)


@pytest.mark.parametrize("once", [False, True])
def test_half_a_run_is_not_taught_by_others(once: bool, teacher: StagedNet, tmp_path: Path) -> None:
    recipe = SMALL.changed(
        start="any", teacher="small", teacher_weight=1.0, teacher_with_start=True, teacher_once=once
    )
    other = nets.build("fusion", SMALL.arguments)

    def prepared(start: StagedNet = teacher, teacher: StagedNet = teacher, rows: Rows | None = None) -> Run:
        rows = rows or colours()
        return Run(recipe, rows, tmp_path, compile_net=False, start=start, teacher=teacher)

    changed: tuple[tuple[str, dict[str, Any]], ...] = (
        ("another start;", {"start": other}),
        ("another teacher;", {"teacher": other}),
        ("another start, another teacher;", {"start": other, "teacher": other}),
    )
    first = prepared()
    if once:  # what was said is on disk before the first epoch
        for reason, arguments in (*changed, ("another rows", {"rows": replace(colours(), source="others")})):
            with pytest.raises(ValueError, match=reason):
                prepared(**arguments)
    first.train_epoch()
    for reason, arguments in changed:
        with pytest.raises(ValueError, match=reason):
            prepared(**arguments)
    assert prepared().epoch == 1


@pytest.mark.parametrize("who", ["start", "teacher"])
def test_who_knows_other_classes_cannot_teach(who: str, teacher: StagedNet, tmp_path: Path) -> None:
    recipe = SMALL.changed(start="any", teacher="any", teacher_weight=1.0, teacher_with_start=True)
    given = {"start": teacher, "teacher": teacher} | {
        who: nets.build("fusion", {**SMALL.arguments, "num_classes": 5})
    }
    with pytest.raises(ValueError, match=r"the rows have 2 classes, who teaches has (2 and 5|5 and 2)"):
        Run(recipe, colours(), tmp_path, compile_net=False, **given)


def test_an_ensemble_says_the_mean_of_what_its_members_say(teacher: StagedNet) -> None:
    other, images = nets.build("fusion", SMALL.arguments).eval(), torch.randn(4, 3, 32, 32)
    both = last_logits(TeacherEnsemble([teacher.eval(), other]), images)
    torch.testing.assert_close(both, (last_logits(teacher, images) + last_logits(other, images)) / 2)


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize(("with_start", "learnt"), [(False, 1.0), (True, 0.0)])
def test_what_training_starts_from_can_teach_too(
    with_start: bool, learnt: float, once: bool, teacher: StagedNet, tmp_path: Path
) -> None:
    contrary = copy.deepcopy(teacher)  # says the opposite, and louder
    with torch.no_grad():
        for name, value in contrary.heads.named_parameters():
            if "linear" in name:
                value *= -3
    recipe = SMALL.changed(
        start="contrary",
        teacher="small",
        teacher_weight=1.0,
        teacher_with_start=with_start,
        teacher_once=once,
        epochs=8,
    )
    pupil = Run(recipe, colours(), tmp_path, compile_net=False, start=contrary, teacher=teacher)
    while not pupil.done:
        pupil.train_epoch()
    assert accuracies(pupil) == [learnt, learnt]


def test_the_mirror_image_counts_as_much(teacher: StagedNet) -> None:
    images = torch.randn(4, 3, 32, 32)
    logits = mirrored_logits(teacher.eval(), images)
    torch.testing.assert_close(logits, mirrored_logits(teacher, images.flip(3)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits, last_logits(teacher, images), atol=1e-3)
