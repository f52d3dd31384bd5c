"""How a comparison is made, in sentences."""

from __future__ import annotations

from foveate.study.counting import counted
from foveate.study.design import Study
from foveate.train.recipe import Recipe


def rules(study: Study) -> list[str]:
    """How the comparison is made, in sentences for whoever reads its results.

    Example:
        >>> from foveate.study.plan import prepare
        >>> print(rules(prepare(attention=("se",), seeds=2).study)[0])
        Every arm has the same budget: 8 epochs of 1,800 samples, batches of 32, SGD with momentum 0.9.
    """
    base, recipe = study.base, Recipe(**study.base.recipe)
    beginning = "trained from scratch" if base.weights is None else f"fine-tuned from the weights {base.weights}"
    initial = (
        "Attention starts as its paper initialises it."
        if base.start == "paper"
        else "Attention starts as the identity, so that it changes nothing until it has learned to."
    )
    by = f"SGD with momentum {recipe.momentum:g}" if recipe.optimizer == "sgd" else "AdamW"
    if study.rates:
        rates = ", ".join(f"{rate:.3g}" for rate in study.rates)
        rate = (
            f"The learning rate of every arm, the baseline's too, is the one of {rates} that was best on validation "
            f"with {counted(len(study.tuning_seeds), 'seed')} that no other run uses; these runs did not look at "
            f"{'their' if base.resplit else 'the'} test samples."
        )
    else:
        rate = f"One learning rate, {recipe.learning_rate:g}, was fixed in advance for all arms."
    falls = {"cosine": "falls along a half cosine", "poly": "falls as a power", "constant": "stays"}[recipe.schedule]
    found = [
        f"Every arm has the same budget: {counted(recipe.epochs, 'epoch')} of {counted(base.counts[0], 'sample')}, "
        f"batches of {recipe.batch_size}, {by}.",
        f"{rate} It rises linearly over the first {recipe.warmup:.0%} of the steps and {falls}. Weight decay is "
        f"{recipe.weight_decay:g}, none for norms, biases and blends.",
        f"{base.host} is {beginning}. {initial}",
        "Runs with the same seed are paired: the same initial host, the same samples in the same order, changed alike.",
        "A network is judged with the weights of the epoch that was best on validation, on test samples that were "
        "looked at once.",
    ]
    if base.resplit:
        found.append("The samples are few: with every seed they are dealt anew to training, validation and test.")
    if any(arm.role == "capacity" for arm in study.arms):
        found.append(
            "A capacity control has, at the places of the mechanism, as many parameters as it has, in 1×1 convolutions "
            "and a scale and a shift of channels: the same for every input."
        )
    if any(arm.role == "placebo" for arm in study.arms):
        found.append(
            "A placebo is the mechanism with its parameters and its operations, blind to its input: its weights are "
            "computed from the running mean of the maps it was given."
        )
    if study.sequential:
        found.append(
            "Seeds were added until every arm was decided or the budget was spent; the error probability holds over "
            "all looks, which were planned in advance."
        )
    return found
