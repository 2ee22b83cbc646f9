"""Seconds under MPC in the loss of your own search: twenty lines of torch.

`error` stands for the loss of your supernet. mpcprof gives `cost_s`, the seconds of
every option in every layer, from a measured profile, for any model and network.
"""

import torch

import mpcprof

OPTIONS, BUDGET_S = ["softmax", "relu_softmax", "scale"], 25.0
torch.manual_seed(0)

priced_by = mpcprof.fit_cost_model(mpcprof.read_profile("semi2k"))
model, wan = mpcprof.get_model("cifar"), mpcprof.parse_network("44MBps,40ms")
terms = mpcprof.compute_terms(priced_by, model, wan, attentions=OPTIONS)
head_s = torch.from_numpy(terms.unit_s("attention", OPTIONS)).float()
cost_s = model.n_heads * head_s  # (L, O): the heads of a layer run one by one

scores = torch.randn(model.n_layers, 65, 65) * torch.linspace(0.5, 3, 7)[:, None, None]
relu = scores.relu()
outputs = (scores.softmax(-1), relu / relu.sum(-1, keepdim=True), scores / 65)
mixed = torch.stack(outputs, 1)  # (L, O, N, N)

alpha = torch.zeros_like(cost_s, requires_grad=True)
optimizer = torch.optim.Adam([alpha], lr=0.1)
for _ in range(300):
    share = alpha.softmax(-1)  # (L, O)
    output = (share[..., None, None] * mixed).sum(1)
    error = (output - mixed[:, 0]).abs().mean()
    seconds = (share * cost_s).sum()
    loss = error + torch.relu(seconds / BUDGET_S - 1)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

print(f"expected {seconds.item():.2f} s of {cost_s[:, 0].sum().item():.2f} s")
print("attention:", *(OPTIONS[best] for best in alpha.argmax(-1)))
