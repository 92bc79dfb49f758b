"""The exercises of lesson 10: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import distillation as reference
from coursekit.exercises.many_teachers import mistakes_confidence as confidence
from coursekit.exercises.many_teachers import mistakes_ensemble as ensemble
from coursekit.exercises.many_teachers import mistakes_mutual as mutual
from coursekit.exercises.many_teachers.properties import PUBLIC
from coursekit.exercises.spec import Exercise

__all__ = ["EXERCISES"]

FORBIDDEN = {
    "coursekit": "the reference is what you are writing",
    "Ensemble": "it calls the function you are writing",
    "learn_mutually": "it is the loop you are writing",
    "mutual_step": "it is a step of the loop you are writing",
    "assistant_stages": "it calls the function you are writing",
    "calibration_curve": "sort the answers into bins yourself",
    "fit_temperature": "look for it yourself, among the candidates",
}


EXERCISES = (
    Exercise(
        "ensemble_weights", "10", 3, reference.ensemble_weights,
        PUBLIC["ensemble_weights"],
        (
            "Make a list of floats of whatever came first; then check; then divide. What should None become?",
            "`if not weights` asks a tensor for its truth, which raises. And no comparison finds NaN: math.isfinite "
            "does.",
            "Four checks: the length, math.isfinite of each, none below 0, the sum not 0. After them divide each "
            "weight by the sum of all.",
        ),
        ensemble.ENSEMBLE_WEIGHTS, ensemble.weights_probes, FORBIDDEN,
    ),
    Exercise(
        "ensemble_probabilities", "10", 3, reference.ensemble_probabilities,
        PUBLIC["ensemble_probabilities"],
        (
            "Three operations: divide by T, softmax, average. In which order does no teacher get more than its weight?",
            "What is averaged must lie in 0..1 for every teacher. Do logits?",
            "For each teacher its weight times the softmax over dim 1 of its logits / T; add these up over the "
            "teachers.",
        ),
        ensemble.ENSEMBLE_PROBABILITIES, ensemble.probabilities_probes, FORBIDDEN,
    ),
    Exercise(
        "peer_loss", "10", 3, reference.peer_loss,
        PUBLIC["peer_loss"],
        (
            "Two parts: the labels, with the logits as they are; the other peers, with everything softened.",
            "KL(other ‖ own) is a sum over the classes of p_other (log p_other - log p_own), and then a mean over the "
            "images. F.kl_div takes log p_own first.",
            "One divergence for each of the others with reduction='batchmean', the mean of these, times T squared, "
            "plus F.cross_entropy of your own logits.",
        ),
        mutual.PEER_LOSS, mutual.loss_probes, FORBIDDEN, (reference.mutual_losses,),
    ),
    Exercise(
        "train_peers", "10", 4, reference.train_peers,
        PUBLIC["train_peers"],
        (
            "Each batch has three rounds: all peers look at the images; all losses are worked out; all peers take a "
            "step.",
            "What another peer says is a target for you, and a target is a number: .detach().",
            "An optimizer a peer, made before the loop. In it: a list of logits, a list of losses (with the others "
            "detached), zero_grad and backward for each, and only then step for each. Return the losses with .item().",
        ),
        mutual.TRAIN_PEERS, mutual.training_probes, FORBIDDEN, (reference.mutual_step, reference.learn_mutually),
    ),
    Exercise(
        "plan_chain", "10", 2, reference.plan_chain,
        PUBLIC["plan_chain"],
        (
            "A chain of n networks has n - 1 links. Who stands next to whom?",
            "zip of the list without its last and the list without its first gives the pairs.",
            "divmod(epochs, links) gives the share of each and what is left over; the last link gets both. Check "
            "first that the share is not 0.",
        ),
        confidence.PLAN_CHAIN, confidence.chain_probes, FORBIDDEN, (reference.assistant_stages,),
    ),
    Exercise(
        "expected_calibration_error", "10", 3, reference.expected_calibration_error,
        PUBLIC["expected_calibration_error"],
        (
            "Go through the bins. Which images are in this one, how many of them are right, how sure is the network on "
            "average?",
            "A bin counts by its share of all images. An empty one counts nothing: leave it out before you take a "
            "mean of it.",
            "For b in range(n_bins): inside = confidence above b / n_bins and at most (b + 1) / n_bins. Add up the "
            "share of images times the absolute gap of the two means.",
        ),
        confidence.CALIBRATION_ERROR, confidence.error_probes, FORBIDDEN, (reference.reliability,),
    ),
    Exercise(
        "best_temperature", "10", 2, reference.best_temperature,
        PUBLIC["best_temperature"],
        (
            "The accuracy is the same at every temperature. Which measure is not, and punishes a sure answer that is "
            "wrong?",
            "F.cross_entropy takes logits: divide them by T, and give it nothing that is a probability already.",
            "One cross-entropy for each candidate, and the candidate of the smallest: min with a key.",
        ),
        confidence.BEST_TEMPERATURE, confidence.temperature_probes, FORBIDDEN, (reference.fit_temperature,),
    ),
)  # fmt: skip
