# %% [markdown]
# # 09 · Feature distillation: learning from the layers in between
#
# In lesson 08 the teacher spoke through its last layer: ten numbers an image. Here the student listens to the layers before
# it. By the end you will have
#
# - **written** the six functions that feature distillation rests on, and had each of them checked,
# - **seen** where a trained network looks, drawn over real clothes, and whether its student looks there too,
# - **measured** which layers are worth matching, and found a published recipe whose teacher teaches nothing.
#
# **Before:** lesson 08. **You need** about two hours; there are 21 points to check yourself and 3 that a person grades. **The machine
# needs** about 35 s for all cells, 1.3 GB of memory, and no download.

# %% [markdown]
# <details><summary><b>How these notebooks work</b> (open once)</summary>
#
# Run the cells in order with Shift+Enter. An exercise has a statement, a cell where you write, a cell to look at your
# result, and a check. Replace the line `raise NotImplementedError()`, run the cell, run the check: it says which
# properties hold, what it got and what it expected. Run it as often as you like. `hint("name")` opens three hints, each
# stronger than the last; `solution("name")` shows ours where the solutions are installed. If an exercise will not give
# in, go on: everything after it uses our function in place of yours.
#
# The numbers in the text are our run's. A training rounds differently on another processor: your last digits may differ.
#
# </details>

# %%
import math
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit import data, measure, plot, zoo
from coursekit import distillation as cd
from coursekit.data import Dataset
from coursekit.ledger import Ledger
from coursekit.models import ResNet
from coursekit.notebook import check, hint, solution, use
from coursekit.train import Recipe, evaluate

torch.set_num_threads(1)  # small layers gain little from more, and times stay steady

# %% [markdown]
# ## 1 · What ten numbers leave out
#
# The teacher is our ResNet-20. The student has the same plan, but one block a stage in place of three, and half the channels.

# %% tags=["demo"]
teacher = zoo.load("resnet20")
test = data.fashion_mnist("test", subset=True)  # 2,000 test images that every machine has
STAGES = ("stage1", "stage2", "stage3")


def new_student(seed=0):
    """A ResNet-8 of half the teacher's width, untrained."""
    torch.manual_seed(seed)
    return ResNet(n_blocks=1, width=8)


student = new_student().eval()
for name, network in (("teacher", teacher), ("student", student)):
    macs = measure.macs(network, (1, 28, 28))
    print(f"{name}: {measure.n_parameters(network):7,} parameters, {macs / 1e6:4.1f} million MACs an image")

# %% tags=["demo"]
for name, shape in cd.feature_shapes(teacher, test.images[:1], [*STAGES, "fc"]).items():
    print(f"{name:>7}: {' x '.join(map(str, shape)):>12} = {math.prod(shape):6,} numbers an image")

# %% [markdown]
# Of the numbers that the teacher computes on its way, the student of lesson 08 saw the last row. The rows above say *how* the answer
# was found: which parts of the image were used, and for what. A student that is told only the answers must find a way of its own.
#
# Three questions make up this lesson: how to get at these numbers, how to compare them when the two networks differ in width and
# size, and which of them to compare.

# %% [markdown]
# ## 2 · Looking inside without touching
#
# One way is to write the teacher's `forward` once more, keeping what passes by. One tutorial does: it calls `teacher.conv1`, `teacher.bn1`,
# `teacher.relu`, … . That is a copy which fits one network, until that network changes.

# %% tags=["demo"]
try:
    zoo.load("mobilenet").conv1
except AttributeError as error:
    print(error)

# %% [markdown]
# The other way is a **hook**: a function that PyTorch calls whenever a module has computed its output.
#
# ```python
# handle = module.register_forward_hook(lambda module, inputs, output: ...)
# handle.remove()
# ```
#
# It needs the module's name only, which `network.named_modules()` lists, dots and all. But a hook hands out the *tensor itself*, and
# somebody else may write into it.

# %% tags=["demo"]
tiny = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True))
kept = {}
handle = tiny[0].register_forward_hook(lambda module, inputs, output: kept.update(convolution=output))
with torch.no_grad():
    tiny(test.images[:4])
    handle.remove()
    print(f"smallest output of the convolution, as kept:  {kept['convolution'].min():.2f}")
    print(f"smallest output of the convolution, in truth: {tiny[0](test.images[:4]).min():.2f}")

# %% [markdown]
# The ReLU works in place: it saved memory by writing over the tensor that the hook had kept. Nothing warns you.

# %% [markdown]
# ### Exercise 1 · `capture_features` (4 points, about 12 lines)
#
# **Given** a `network`, `images` and a list `names` of module names, run the network **once** and **return** a dict from each name to a
# copy of what that module returned.
#
# - Names are those of `network.named_modules()`: `"stage2"`, `"stage1.0.conv1"`. Another name raises an error.
# - Afterwards the network has no hook left, **also if its forward pass raised**.
# - Change neither its mode nor whether gradients are recorded: a student has to learn from these features.


# %% nbgrader={"solution": true, "grade_id": "capture_features"}
def capture_features(network: nn.Module, images: Tensor, names: list[str]) -> dict[str, Tensor]:
    """The outputs of these modules in one forward pass of the network, by name; no hook stays behind."""
    ### BEGIN SOLUTION
    modules = dict(network.named_modules())
    chosen = {name: modules[name] for name in names}
    features: dict[str, Tensor] = {}
    handles = []

    def keep(name: str):
        def hook(module, inputs, output):
            features[name] = output.clone()

        return hook

    try:
        for name, module in chosen.items():
            handles.append(module.register_forward_hook(keep(name)))
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return features
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: three shapes, and no hook left in any module.
found = capture_features(student, test.images[:2], ["stage1", "stage2.0.bn1", "fc"])
for name, feature in found.items():
    print(f"{name:>12}: {tuple(feature.shape)}, smallest value {'below' if feature.min() < 0 else 'not below'} 0")
print("hooks left:", sum(len(module._forward_hooks) for module in student.modules()))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-capture_features", "points": 4}
check("capture_features")

# %% tags=["demo", "nbval-ignore-output"]
hint("capture_features")

# %% [markdown]
# The course's `cd.capture(network, names)` is the same as a `with` block, in which every forward pass fills a dict. It also refuses modules
# that run twice, whose "output" would be whichever came last.

# %% [markdown]
# ## 3 · Hints: predict what the teacher computes
#
# FitNets (2015) picks one layer of the teacher, the **hint**, and one of the student, the **guided** layer, and asks that the second
# predict the first:
#
# $$L_\mathrm{hint} = \tfrac12 \,\bigl\| r\bigl(v(x)\bigr) - u(x) \bigr\|^2$$
#
# where $u$ is the teacher up to its hint, $v$ the student up to its guided layer, and $r$ a **regressor**: the student has 16 channels there
# and the teacher 32, so a 1 × 1 convolution translates. (Of different height or width, the student's maps are first averaged or
# interpolated to the teacher's: `cd.match_size`.) We take the mean over all elements, so that the loss does not grow with the map.

# %% [markdown]
# The regressor is scaffolding. It learns with the student and is thrown away; it must not be *in* the student. The tutorial builds it into the
# student's `forward`, where it runs for ever:

# %% tags=["demo"]
adapters = nn.ModuleList([nn.Conv2d(32, 64, 1), nn.Conv2d(64, 128, 1)])  # theirs, on 32 x 32 images
macs = sum(layer.weight.numel() * 32 * 32 for layer in adapters)
print(f"their adapters: {measure.n_parameters(adapters):,} parameters, {macs / 1e6:.1f} million MACs in every inference")
ours = cd.Hints([("stage2", "stage2")], channels=[(16, 32)])
print(f"ours: {measure.n_parameters(ours):,} parameters, in the objective; in the student, still {measure.n_parameters(student):,}")

# %% [markdown]
# ### Exercise 2 · `hint_stage` (4 points, about 12 lines)
#
# FitNets trains in two stages; this is the first. **Given** `guided` (the student's lower layers), `hint` (the teacher's), `regressor`,
# one batch of `images`, `steps` and `lr`, do `steps` steps of plain gradient descent (`torch.optim.SGD`) on
#
# $$\tfrac12\, \mathrm{mean}\bigl((\mathrm{regressor}(\mathrm{guided}(x)) - \mathrm{hint}(x))^2\bigr)$$
#
# and **return** a list with the loss before each step, as floats.
#
# - `guided` **and** `regressor` learn. `guided` runs in training mode.
# - The teacher does not learn: `hint` runs in eval mode (it may come in training mode), without gradients, and keeps its weights and its
#   batch norms' statistics.


# %% nbgrader={"solution": true, "grade_id": "hint_stage"}
def hint_stage(
    guided: nn.Module, hint: nn.Module, regressor: nn.Module, images: Tensor, steps: int, lr: float
) -> list[float]:
    """Trains guided and regressor towards the teacher's hint; the loss before each step."""
    ### BEGIN SOLUTION
    guided.train()
    hint.eval()
    with torch.no_grad():
        target = hint(images)
    optimizer = torch.optim.SGD([*guided.parameters(), *regressor.parameters()], lr)
    losses = []
    for _ in range(steps):
        loss = (regressor(guided(images)) - target).square().mean() / 2
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the loss should fall.
def lower_layers(network):
    """The network up to the end of its stage 2."""
    return nn.Sequential(network.conv1, network.bn1, network.relu, network.stage1, network.stage2)


torch.manual_seed(0)
losses = hint_stage(
    lower_layers(new_student()), lower_layers(teacher), nn.Conv2d(16, 32, 1), test.images[:64], steps=20, lr=0.5
)
print("loss before step 0, 5, 10, 15:", [round(loss, 3) for loss in losses[::5]])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-hint_stage", "points": 4}
check("hint_stage")

# %% tags=["demo", "nbval-ignore-output"]
hint("hint_stage")

# %% [markdown]
# Is that loss small? Compare with the best that a constant can do, half the variance of the hint, and look at images that the student
# has not seen.

# %% tags=["demo"]
torch.manual_seed(0)
pupil, regressor = lower_layers(new_student()), nn.Conv2d(16, 32, 1)
train = data.fashion_mnist("train", subset=True)
curve = []
for batch in train.images[:1500].split(50):
    curve += cd.hint_stage(pupil, lower_layers(teacher), regressor, batch, steps=2, lr=8.0)
with torch.no_grad():
    target = lower_layers(teacher)(test.images[:300])
    missed = (regressor(pupil.eval()(test.images[:300])) - target).square().mean() / 2
    constant = (target - target.mean((0, 2, 3), keepdim=True)).square().mean() / 2
print(f"a constant for each channel misses by {constant:.3f}, the student after {len(curve)} steps by {missed:.3f}:")
print(f"its 16 channels predict {1 - missed / constant:.0%} of the variance of the teacher's 32, on test images")

# %% [markdown]
# ### A loss that teaches nothing
#
# The tutorial adds three losses with weights $\alpha$ for the labels, $1-\alpha-\beta$ for the teacher's answers and $\beta$ for features that
# are normalised over the channels; its defaults are $\alpha = 0.7$, $\beta = 0.3$. Work out the second weight. And the third loss: a mean over
# $C$ channels of the square of a difference of two vectors of length 1 is at most $4/C$.

# %% tags=["demo"]
print(f"weight of the teacher's answers: {1 - 0.7 - 0.3:.1e}")
with torch.no_grad():
    deep = cd.capture_features(teacher, test.images[:200], ["stage2"])["stage2"]
    unit = F.normalize(deep, dim=1)
    unrelated = F.mse_loss(unit, unit.roll(1, 0))  # each image against another one
print(f"feature loss between different images: {unrelated:.4f}; no loss of 32 channels can be above {4 / 32:.3f}")
print(f"loss of a guess at the label: {math.log(10):.2f}, {math.log(10) / unrelated:.0f} times as much")

# %% [markdown]
# So the answers count for nothing, and the features for next to nothing: what was called distillation is training alone. Nothing raises an error.
# Always print the parts of a loss as they enter the sum; `cd.distill` keeps them apart in its history for that reason.

# %% [markdown]
# ## 4 · Attention: where, not what
#
# A hint asks the student to compute the teacher's very features. A much smaller network may not be able to, and need not. **Attention
# transfer** (2017) asks for less: be *active in the same places*. Of features $A$ with $C$ channels take
#
# $$Q(A) = \sum_{c=1}^{C} A_c^2 \qquad\text{(one number a place)},\qquad\quad \hat Q = \frac{Q}{\|Q\|_2}\ \text{for each image}$$
#
# How many channels there are does not matter any more, so no adapter is needed; nor does the scale of the features.

# %% [markdown]
# ### Exercise 3 · `attention_map` (4 points, about 3 lines)
#
# **Given** `features` $(N, C, H, W)$, **return** the attention maps as a tensor $(N, H \cdot W)$: squares, summed over the channels, flattened row by row,
# each image's row divided by its Euclidean length.
#
# A row of zeros stays a row of zeros. Features $(1, 0)$ and $(0, 2)$ in two places give $(1, 4)/\sqrt{17}$.


# %% nbgrader={"solution": true, "grade_id": "attention_map"}
def attention_map(features: Tensor) -> Tensor:
    """Squares summed over the channels, one row an image, of length 1."""
    ### BEGIN SOLUTION
    energy = features.square().sum(dim=1).flatten(1)
    return F.normalize(energy, dim=1)
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: should be 0.2425 and 0.9701, whatever the scale.
print(attention_map(torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])))
print(attention_map(torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]]) * 1000))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-attention_map", "points": 4}
check("attention_map")

# %% tags=["demo", "nbval-ignore-output"]
hint("attention_map")

# %% [markdown]
# Where does the teacher look? Its three stages over eight test images; bright is much.

# %% tags=["demo", "nbval-ignore-output"]
@torch.no_grad()
def maps_of(network, images, layers=STAGES):
    """Attention maps of the network's layers, by name."""
    return {name: cd.attention_map(f) for name, f in cd.capture_features(network, images, layers).items()}


eight = test.images[:8]
captions = [data.FASHION_CLASSES[k] for k in test.labels[:8]]
plot.overlays(eight, maps_of(teacher, eight), captions, title="Stage 1 lights up along edges, stage 3 over whole parts of the garment");

# %% tags=["demo"]
for name, maps in maps_of(teacher, test.images[:500]).items():
    n = maps.shape[1]
    energy = maps / maps.sum(1, keepdim=True)
    strongest = energy.sort(1, descending=True).values[:, : n // 5].sum(1).mean()
    print(f"{name}: {n:3d} places; the strongest fifth holds {strongest:.0%} of the energy (of an even map, 20%)")

# %% [markdown]
# ### The tutorial's map
#
# It takes the *mean* of magnitudes and a *softmax* over the places. What is wrong with that?

# %% tags=["demo"]
def softmax_map(features):
    """What some tutorials call an attention map."""
    return features.abs().mean(1).flatten(1).softmax(1)


with torch.no_grad():
    deep = cd.capture_features(teacher, test.images[:500], ["stage3"])["stage3"]
other = deep.roll(1, 0)  # the maps of other images
for name, make in (("softmax", softmax_map), ("ours", cd.attention_map)):
    ratio = (make(deep).max(1).values / make(deep).mean(1)).mean()
    moved = (make(deep) - make(deep / 10)).norm(dim=1).mean() / make(deep).norm(dim=1).mean()
    apart = F.mse_loss(make(deep), make(other))
    print(f"{name:>8}: peak / mean {ratio:5.2f}; scaling the features moves it by {moved:4.0%}; two images differ by {apart:.1e}")

# %% [markdown]
# The softmax is almost even: its peak is 1.43 times its mean, where ours has 3.11. It moves when all features shrink, though nobody looks elsewhere. And
# between two different images its squared error is some six hundred times smaller, so that a loss on such maps moves nothing.

# %% [markdown]
# ### The loss
#
# The paper compares maps by the length of their difference, over the pairs $j$ of layers, beside the loss of the labels:
#
# $$L = L_\mathrm{labels} + \frac{\beta}{2} \sum_j \bigl\| \hat Q_S^{\,j} - \hat Q_T^{\,j} \bigr\|_2$$
#
# averaged over the images. It lies between 0 (same map) and $\sqrt 2$ (nothing in common). Maps of different sizes have to meet: we average
# the *sums of squares* over equal areas, to the smaller height and width, and normalise then.

# %% [markdown]
# ### Exercise 4 · `attention_loss` (3 points, about 7 lines)
#
# **Given** `student` $(N, C, H, W)$ and `teacher` $(N, C', H', W')$, features of the same images, **return** the mean over the images of the length of the difference of
# their attention maps: a tensor with no dimensions, through which gradients flow.
#
# - Height and width: the smaller of the two, each by itself. `F.adaptive_avg_pool2d(x, size)` averages over equal areas.
# - Leave out $\beta/2$: that is for whoever adds up the parts.
# - Write the squares again rather than call your `attention_map`: then this exercise stands on its own.


# %% nbgrader={"solution": true, "grade_id": "attention_loss"}
def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The distance between the attention maps of student and teacher, averaged over the images."""
    ### BEGIN SOLUTION
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])

    def rows(features: Tensor) -> Tensor:
        energy = F.adaptive_avg_pool2d(features.square().sum(dim=1), size)
        return F.normalize(energy.flatten(1), dim=1)

    return (rows(student) - rows(teacher)).norm(dim=1).mean()
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the root of 2 for maps without anything in common, 0 for features that differ in scale only.
left, right = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 5.0]]]])
print(f"{attention_loss(left, right):.4f}, {attention_loss(left, 3 * left):.4f}")

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-attention_loss", "points": 3}
check("attention_loss")

# %% tags=["demo", "nbval-ignore-output"]
hint("attention_loss")

# %% [markdown]
# ## 5 · Which layers?
#
# A network of 20 layers and one of 8: what belongs to what? Names say nothing, and neither do positions. Both papers match where both networks
# have maps of the *same height and width*, at the end of each such group: there, as much as possible has been computed at this
# resolution, and a place means the same part of the image in both.

# %% [markdown]
# ### Exercise 5 · `pair_layers` (3 points, about 5 lines)
#
# **Given** two dicts `student` and `teacher` from layer name to shape, in the order in which the layers run, **return** a list of pairs `(student's
# layer, teacher's layer)`: for each height and width that both have, the **last** layer of each.
#
# - Maps have shapes `(channels, height, width)`; shapes of another length, such as `(10,)`, are left out.
# - Channels may differ. The pairs come in the order of the student's layers.


# %% nbgrader={"solution": true, "grade_id": "pair_layers"}
def pair_layers(student: dict[str, tuple], teacher: dict[str, tuple]) -> list[tuple[str, str]]:
    """At each height and width that both networks have, the last layer of each."""
    ### BEGIN SOLUTION
    last = {shape[1:]: name for name, shape in student.items() if len(shape) == 3}
    theirs = {shape[1:]: name for name, shape in teacher.items() if len(shape) == 3}
    pairs = {name: theirs[size] for size, name in last.items() if size in theirs}
    return [(name, pairs[name]) for name in student if name in pairs]
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: the end of each stage.
inside = [cd.feature_shapes(network, test.images[:1]) for network in (student, teacher)]
print(f"{len(inside[0])} modules of the student, {len(inside[1])} of the teacher")
for pair in pair_layers(*inside):
    print(pair, inside[0][pair[0]], inside[1][pair[1]])

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-pair_layers", "points": 3}
check("pair_layers")

# %% tags=["demo", "nbval-ignore-output"]
hint("pair_layers")

# %% [markdown]
# ## 6 · Relations: how images lie to each other
#
# Both losses so far take one image at a time. **Relational** distillation (2019) looks at a whole batch: let $e_i$ be the embedding of image $i$, its features before the last
# layer. What matters is not where $e_i$ lies, but which images lie near which:
#
# $$\psi_{ij} = \frac{\|e_i - e_j\|_2}{\mu}, \qquad \mu = \text{mean of all } \|e_i - e_j\|_2,\ i \ne j$$
#
# The loss is a Huber loss between the student's $\psi_{ij}$ and the teacher's. Width, scale and rotation of the space drop out. (A second loss does the
# same with angles of triples.)

# %% [markdown]
# ### Exercise 6 · `relational_distances` (3 points, about 4 lines)
#
# **Given** `embeddings` $(N, D)$, $N \ge 2$ and not all equal, **return** the matrix $\psi$, $(N, N)$: Euclidean distances between all pairs of rows, divided by their mean.
#
# The mean counts pairs of *different* images only: the zeros of the diagonal do not lower it.


# %% nbgrader={"solution": true, "grade_id": "relational_distances"}
def relational_distances(embeddings: Tensor) -> Tensor:
    """The distances between all pairs of rows, in units of their mean."""
    ### BEGIN SOLUTION
    n = len(embeddings)
    distances = (embeddings[:, None] - embeddings[None]).norm(dim=2)
    return distances / (distances.sum() / (n * (n - 1)))
    ### END SOLUTION


# %% tags=["demo", "raises-exception"]
# Look: a triangle with sides 30, 40, 50. Should hold 0.75, 1 and 1.25.
relational_distances(torch.tensor([[0.0, 0.0], [0.0, 30.0], [40.0, 0.0]]))

# %% nbgrader={"grade": true, "locked": true, "grade_id": "check-relational_distances", "points": 3}
check("relational_distances")

# %% tags=["demo", "nbval-ignore-output"]
hint("relational_distances")

# %% [markdown]
# What does the teacher's space look like? Forty test images, four of each class in a row: dark is near, bright is far.

# %% tags=["demo"]
forty = torch.cat([(test.labels == k).nonzero()[:4, 0] for k in range(10)])


@torch.no_grad()
def embeddings(network, images):
    """The features of stage 3, averaged over the places."""
    return cd.capture_features(network, images, ["stage3"])["stage3"].mean((2, 3))


relations = {name: cd.relational_distances(embeddings(network, test.images[forty]))
             for name, network in (("teacher", teacher), ("untrained student", student))}
same = test.labels[forty][:, None] == test.labels[forty]
for name, matrix in relations.items():
    within, between = matrix[same].sum() / (40 * 3), matrix[~same].mean()
    print(f"{name:>17}: {within:.2f} between images of one class, {between:.2f} between classes")

# %% tags=["demo", "nbval-ignore-output"]
import matplotlib.pyplot as plt

plot.images(torch.stack([*relations.values()]), list(relations), n_columns=2, ax=plt.subplots(figsize=(6.5, 3.6))[1],
            title="Dark blocks: to the teacher, one class lies together");

# %% [markdown]
# ## 7 · Does it pay, and where?
#
# Teachers have most to add where labels are few. So: 500 training images, of the 60,000 that the teacher saw. Four students begin with the same
# weights and see the same images in the same order: one alone, one with hints at stage 2, one with attention at stage 2, and one with attention
# at all three stages, through **your** `attention_loss` if it passes. (About 15 s.)

# %% tags=["demo"]
mine = use("attention_loss")


def attention(*stages, loss=cd.attention_loss):
    """Attention transfer at these stages, as pair_layers paired them."""
    return {"attention": (1.0, cd.AttentionTransfer([(stage, stage) for stage in stages], beta=3.0, loss=loss))}


beside = {
    "alone": {},
    "hints, stage 2": {"hints": (1.0, cd.Hints([("stage2", "stage2")], channels=[(16, 32)], weight=3.0))},
    "attention, stage 2": attention("stage2"),
    "attention, all": attention(*STAGES, loss=mine),
}


class Objective(cd.Weighted):
    """Asks for all three stages, whatever it needs, so that all students share one file of the teacher's features."""

    teacher_layers = STAGES

# %% tags=["demo", "varies"]
few, students, histories = train.take(500), {}, {}
recipe = Recipe(epochs=10, batch_size=50, peak_lr=0.2)
with tempfile.TemporaryDirectory() as folder:
    for name, more in beside.items():
        students[name] = new_student()
        objective = Objective({"labels": (1.0, cd.StudentAlone()), **more})
        histories[name] = cd.distill(students[name], teacher, few, objective, recipe, cache=Path(folder))
for name, history in histories.items():
    print(f"{name:>18}, last epoch: " + ", ".join(f"{part} {values[-1]:.2f}" for part, values in history.parts.items()))

# %% tags=["demo", "nbval-ignore-output"]
@torch.no_grad()
def apart(network, images):
    """Distance of the network's attention maps from the teacher's, by stage."""
    features = [cd.capture_features(each, images, STAGES) for each in (network, teacher)]
    return [cd.attention_loss(*(f[stage] for f in features)).item() for stage in STAGES]


accuracy = {name: evaluate(network, test) for name, network in students.items()}
for name, network in students.items():
    distances = " ".join(f"{d:.2f}" for d in apart(network, test.images[:500]))
    gain = "" if name == "alone" else f", {100 * (accuracy[name] - accuracy['alone']):+.1f} points"
    print(f"{name:>18}: maps from the teacher's {distances}; {accuracy[name]:.1%} right{gain}")
noise = 2 * math.sqrt(0.75 * 0.25 / len(test))
print(f"{len(test):,} images know an accuracy to about {100 * noise:.1f} points")

# %% [markdown]
# Does the loss do what it says? Yes: the student taught at stage 2 came from a distance of 0.79 to 0.35 there and stayed away elsewhere; the one taught at all stages came near at all.
# Hints, which ask for features and not for places, brought no map nearer.
#
# Does it pay? Here by 4.5 points, by 2.6, and by 1.8 for the hints, which is no more than 2,000 images can tell. Look at the second stage of three of them:

# %% tags=["demo", "nbval-ignore-output"]
plot.overlays(eight, {name: maps_of(network, eight)["stage2"] for name, network in
                      (("teacher", teacher), ("alone", students["alone"]), ("attention", students["attention, all"]))},
              captions, title="Taught attention, a student looks where its teacher looks");

# %% [markdown]
# ### Which layers: three seeds
#
# One run of each is an anecdote: other first weights, other numbers. `benchmarks/feature_layers.py` did the same with three seeds, stage by stage, on all 10,000
# test images. The weight of each loss was chosen before, on training images held out.

# %% tags=["demo"]
measured, gain = cd.measured_layers(), {}
print(measured["recipe"])
for way, row in measured["ways"].items():
    mean = sum(row["accuracy"]) / 3
    gain[way] = sum(row["gain"]) / 3
    spread = math.sqrt(sum((g - gain[way]) ** 2 for g in row["gain"]) / 2)
    more = "" if way == "alone" else f", {100 * gain[way]:+.1f} ± {100 * spread:.1f} points over alone"
    print(f"{way:>22}: maps from the teacher's {' '.join(f'{d:.2f}' for d in row['attention'].values())}; {mean:.1%} right{more}")

# %% tags=["demo", "nbval-ignore-output"]
plot.bars({way.replace(", ", ",\n"): 100 * g for way, g in gain.items() if way != "alone"}, fmt="{:+.1f}",
          ylabel="points over the student alone", title="Every stage helps; all three do no more than stage 2 alone");

# %% [markdown]
# Each stage pays by itself, and each moves the maps of its own stage alone. Stage 2 gives the most of the three, and matching all of them is no better than that one.
# The spread over seeds, up to 2.2 points, says how little a single run would have shown.
#
# With plenty of labels expect less: the paper's student, on all of CIFAR-10, went from 8.77 to 7.93 % errors.

# %% [markdown]
# ### Use it: a row for the ledger
#
# The student of all three stages goes into your ledger. Its file holds the student alone: no regressor, no teacher, no hook.

# %% tags=["demo", "nbval-ignore-output"]
network = students["attention, all"]
ledger = Ledger.open()
ledger.add(step="ResNet-8 taught attention, 500 images", lesson="09-feature-distillation", accuracy=accuracy["attention, all"],
           size_bytes=measure.saved_size(network), nonzero=measure.nonzero(network),
           macs=measure.macs(network, (1, 28, 28)), by=mine.by)
ledger

# %% tags=["demo"]
size_before, size_after = measure.saved_size(teacher), measure.saved_size(network)
print(f"{size_before:,} bytes -> {size_after:,} bytes: {size_before / size_after:.1f} times smaller")

# %% [markdown]
# ## 8 · From scratch to the tools people use
#
# torchvision's `create_feature_extractor` goes another way: it traces the network once and writes a new one that returns the features, with everything behind
# the last of them cut off. No hooks at all.

# %% tags=["demo"]
from torchvision.models.feature_extraction import create_feature_extractor

extractor = create_feature_extractor(teacher, list(STAGES))
with torch.no_grad():
    theirs, ours = extractor(eight), cd.capture_features(teacher, eight, STAGES)
print("largest difference:", max((theirs[stage] - ours[stage]).abs().max().item() for stage in STAGES))
print("same parameters, not copies:", extractor.get_parameter("conv1.weight") is teacher.conv1.weight)
print("modules that are gone:", sorted({n for n, _ in teacher.named_children()} - {n for n, _ in extractor.named_children()}))

# %% [markdown]
# Convenient and fast, where a network can be traced: one whose `forward` branches on its data cannot. And the trap of section 2 is still there:

# %% tags=["demo"]
both = create_feature_extractor(tiny, ["0", "1"])
with torch.no_grad():
    print(f"smallest output of the convolution, torchvision: {both(eight)['0'].min():.2f}")
    print(f"smallest output of the convolution, ours:        {cd.capture_features(tiny, eight, ['0'])['0'].min():.2f}")

# %% [markdown]
# ## 9 · In your own words
#
# ### Question 1 (3 points, graded by a person)
#
# A colleague matches one layer of a student (64 × 28 × 28) with one of a teacher (256 × 14 × 14). Of each she takes the mean of the magnitudes over the channels and a softmax over the places; she
# interpolates the teacher's map to 28 × 28, and adds 0.3 times the mean squared difference to 0.7 times the loss of the labels. One run, measured on 2,000 test images, is 0.9 points better than an
# earlier one without the teacher: "attention transfer works". (a) Why has the teacher probably taught nothing, and where in her log could she see it? (b) How should the maps be made and compared, and
# would you have paired these two layers? (c) What has to be measured before the claim stands? Use numbers from this notebook. (8 sentences at most.)

# %% [markdown] nbgrader={"grade": true, "solution": true, "grade_id": "question-features", "points": 3}
# **A model answer.** (a) Softmax maps are almost even (peak 1.43 times the mean), and the mean squared difference even of different images is about $10^{-5}$, against 2.3 for a guess at the label: times 0.3 it
# moves nothing. She would see it in the parts of the loss, printed as they enter the sum. (b) Squares summed over the channels; both averaged to the smaller size, 14 × 14, not interpolated to the larger, as nothing new
# comes of that; then each image's map divided by its length, and the length of the difference averaged over the images. No adapter is needed. I would pair the last layers at one height and width (`pair_layers`), where a
# place means the same in both. (c) A student alone with the same first weights, data and epochs, several seeds of both, and the spread: 2,000 images know an accuracy to about 2 points, so 0.9 may be chance.
# And the distance of the student's maps from the teacher's, which must be smaller than that of the student alone.
#
# *Rubric:* one point each for (a) near-even maps or a vanishing loss, seen in the parts; (b) squares, smaller size, length 1, and pairs of one size; (c) a control with equal beginnings over seeds, and the maps' distance.

# %% [markdown]
# ## What we measured
#
# | question | answer, from the cells above |
# | --- | --- |
# | How does one read a layer? | a hook by name, removed in any case, and a copy: in place, a ReLU had turned −1.20 into 0.00 |
# | Can the student compute the teacher's features? | after 60 steps 16 channels predict 21 % of the variance of 32 |
# | Where do adapters live? | in the objective, 544 parameters; inside the student, the tutorial's cost 10.5 million MACs an inference |
# | Which recipe teaches nothing? | answers weighted 5.6e-17, features bounded by 0.125; softmax maps, whose peak is 1.43 times their mean |
# | Does a student alone look where its teacher looks? | no: maps 0.79 apart at stage 2; taught, 0.35 |
# | Which layers pay? | with 500 images, three seeds: +2.6, +3.6, +2.0 points at stages 1, 2, 3; +3.6 at all three |
#
# **References.** A. Romero et al. 2015, *FitNets: Hints for Thin Deep Nets*, arXiv:1412.6550 · S. Zagoruyko and N. Komodakis 2017, *Paying More Attention to Attention*, arXiv:1612.03928 ·
# W. Park et al. 2019, *Relational Knowledge Distillation*, arXiv:1904.05068 · G. Hinton et al. 2015, *Distilling the Knowledge in a Neural Network*, arXiv:1503.02531.
#
# **Next:** 10, many teachers: ensembles, networks that teach each other, and teachers in between.
