"""The exercises of lesson 08: their points, tests, hints and forbidden names."""

from __future__ import annotations

from coursekit import distillation as reference
from coursekit.exercises.spec import Exercise
from coursekit.exercises.teacher_student import mistakes_epoch as epoch
from coursekit.exercises.teacher_student import mistakes_loss as loss
from coursekit.exercises.teacher_student import mistakes_soft as soft
from coursekit.exercises.teacher_student.properties import PUBLIC

__all__ = ["EXERCISES"]

FORBIDDEN = {"coursekit": "the reference is what you are writing"}
GRADIENTS = {
    **FORBIDDEN,
    "autograd": "here the derivative is worked out by hand",
    "backward": "here the derivative is worked out by hand",
}


EXERCISES = (
    Exercise(
        "soften", "08", 2, reference.soften,
        PUBLIC["soften"],
        (
            "A temperature of 2 makes all differences between logits half as large. The rest is a plain softmax.",
            "Divide before the exponential, not after it: a factor on the exponentials cancels in the softmax.",
            "torch.softmax takes the largest logit away first, so nothing overflows. The classes are dim 1.",
        ),
        soft.SOFTEN, soft.soften_probes, FORBIDDEN,
    ),
    Exercise(
        "distillation_kl", "08", 3, reference.distillation_kl,
        PUBLIC["distillation_kl"],
        (
            "Two distributions for each image, both at temperature T. For each class p (log p - log q), added up: one "
            "number an image.",
            "Then the mean over the images (not over images times classes), and the factor T².",
            "Take log_softmax of both sides, dim 1. The teacher's exponential is the weight. Or F.kl_div: the "
            "student's logarithms first, the teacher's probabilities second, reduction='batchmean'.",
        ),
        soft.DISTILLATION_KL, soft.kl_probes, FORBIDDEN, (reference.kd_loss,),
    ),
    Exercise(
        "kd_loss", "08", 4, reference.kd_loss,
        PUBLIC["kd_loss"],
        (
            "Two terms: what the labels say, and what the teacher says. Which of them knows of a temperature?",
            "The hard one is F.cross_entropy on the logits as they are. The soft one is exercise 2. Weigh both before "
            "you return them, so that they add up to the loss.",
            "A dict of two tensors, \"hard\" and \"soft\"; the first gets what alpha leaves of 1, the second alpha "
            "and T². No .item(): the parts are to be learned from.",
        ),
        loss.KD_LOSS, loss.loss_probes, FORBIDDEN, (reference.distillation_kl,),
    ),
    Exercise(
        "kd_gradient", "08", 3, reference.kd_gradient,
        PUBLIC["kd_gradient"],
        (
            "The derivative of a cross-entropy with respect to the logits is the prediction minus the target. That "
            "holds for the labels and for the teacher.",
            "The soft part sees z/T, so the chain rule brings a factor 1/T. With the T² of the loss, what is left?",
            "Hard: softmax at temperature 1 minus F.one_hot. Soft: student's minus teacher's softened probabilities, "
            "times T. Weigh both with alpha, add, divide by the number of images.",
        ),
        loss.KD_GRADIENT, loss.loss_probes, GRADIENTS,
    ),
    Exercise(
        "smooth_targets", "08", 2, reference.smooth_targets,
        PUBLIC["smooth_targets"],
        (
            "Take the share `smoothing` away from the label, and give it to all classes in equal parts. The label is "
            "one of all classes.",
            "F.one_hot gives integers 0 and 1: turn them into floats, and mix them with a uniform distribution.",
            "It is a mixture: (1 - smoothing) parts one-hot, smoothing parts of 1 / n_classes everywhere.",
        ),
        soft.SMOOTH_TARGETS, soft.smooth_probes, FORBIDDEN,
    ),
    Exercise(
        "decoupled_kl", "08", 3, reference.decoupled_kl,
        PUBLIC["decoupled_kl"],
        (
            "Two distributions from one: (label, not label), and the other classes among themselves. Work both out for "
            "the teacher and for the student, then compare each pair by a KL.",
            "For the others, take the label's column away and let a softmax make the rest add up to 1. "
            "logits[~mask].reshape(n, -1), with the mask from F.one_hot, takes it away.",
            "For label against the rest, logsumexp of the other logits is the logit of \"not label\". Stack it beside "
            "the label's, and log_softmax does the rest. One value an image: sum over dim 1.",
        ),
        loss.DECOUPLED_KL, loss.decoupled_probes, FORBIDDEN,
    ),
    Exercise(
        "distill_epoch", "08", 3, reference.distill_epoch,
        PUBLIC["distill_epoch"],
        (
            "It is an ordinary training loop in which the loss has one more argument. Who must be in which mode while "
            "the batches run, and after them?",
            "The teacher's answers come out of torch.no_grad(), so that it gets no gradient, and its requires_grad "
            "needs no change. Remember its mode, and give it back.",
            "For each batch: the teacher's logits, the student's, the parts, zero_grad, backward of the sum of the "
            "parts, step. Log each part's .item(). torch.optim.SGD gets the student's parameters only.",
        ),
        epoch.DISTILL_EPOCH, epoch.epoch_probes, FORBIDDEN,
    ),
)  # fmt: skip
