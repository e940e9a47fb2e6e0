"""torch's optimisers without its compiler: the same steps, to the last bit."""

from tests.interpreter import in_a_fresh_interpreter

STEPS = """
import torch
from recbole_perpeft.utils.compat import optimizers
optimizers.apply()
optimizers.apply()
for name in ("Adam", "AdamW", "SGD", "Adagrad", "RMSprop", "SparseAdam"):
    torch.manual_seed(0)
    sparse = name == "SparseAdam"
    net, table = torch.nn.Linear(7, 3), torch.nn.Embedding(5, 7, sparse=sparse)
    optimizer = getattr(torch.optim, name)([{"params": table.parameters()}], lr=0.1)
    if not sparse:
        optimizer.add_param_group({"params": net.parameters(), "weight_decay": 0.01})
    for step in range(4):
        optimizer.zero_grad()
        net(table(torch.tensor([1, 3, 3]))).pow(2).sum().backward()
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    print(name, [value.hex() for value in torch.cat([table.weight.flatten(), net.weight.flatten()]).tolist()])

start = torch.tensor(1.0, requires_grad=True)
weight = start.clone()
weight.grad = torch.tensor(2.0)
torch.optim.SGD([weight], lr=0.1, differentiable=True).step()
print("differentiable", torch.autograd.grad(weight, start)[0].item())
print("torch._dynamo" in sys.modules)
"""


def steps(before):
    """What ``STEPS`` prints in a fresh interpreter that imports ``before`` first."""
    return in_a_fresh_interpreter(f"import sys\nimport {before}\n{STEPS}").splitlines()


def test_steps_are_torchs_own():
    """A process that has imported the compiler before keeps torch's own methods."""
    *numbers, compiler = steps("torch")
    *numbers_of_torch, compiler_of_torch = steps("torch._dynamo")
    assert (compiler, compiler_of_torch) == ("False", "True")
    assert len(numbers) == 7
    assert numbers == numbers_of_torch
    assert numbers[-1] == "differentiable 1.0"
