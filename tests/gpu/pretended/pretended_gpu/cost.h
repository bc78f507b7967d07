// What a GPU would have to do: operators, bytes and multiplications are counted, seconds follow from a card's limits.
#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <ctime>
#include <mutex>
#include <vector>

namespace pretended {
struct Limits {  // what a card reaches in practice: multiplications and additions a second, bytes a second, seconds
  double flops16, flops32, bandwidth, launch;
};

struct Work {  // of one operator
  double bytes = 0, flops = 0;
  bool sixteen = false, view = false;
};

struct Costs {
  std::mutex lock;
  std::vector<Limits> cards;
  double calls = 0, bytes = 0, flops = 0, here = 0;  // here: seconds that the CPU's kernels took
  std::array<double, 8> seconds{};                   // by card

  void add(const Work& work, double took) {
    const std::lock_guard<std::mutex> held(lock);
    calls += 1, bytes += work.bytes, flops += work.flops, here += took;
    for (size_t i = 0; i < cards.size(); i++) {
      const Limits& card = cards[i];
      const double busy = std::max(work.bytes / card.bandwidth, work.flops / (work.sixteen ? card.flops16 : card.flops32));
      seconds[i] += work.view ? card.launch / 4 : std::max(card.launch, busy);
    }
  }
};
static Costs costs;

static double now() { return double(std::clock()) / CLOCKS_PER_SEC; }  // of this process: others may be busy, too

// Twice the numbers of the result times the length of the rows that are multiplied.
static double product_flops(const std::vector<at::Tensor>& inputs, const at::Tensor& result) {
  const size_t first = inputs.size() > 2 ? inputs.size() - 2 : 0;  // addmm, baddbmm: behind what is added
  return inputs.empty() || inputs[first].dim() == 0 ? 0 : 2.0 * result.numel() * inputs[first].size(-1);
}

// Scores and their values: 2 · 2 · queries · keys · width; backward has five such products for two.
static double attention_flops(const std::vector<at::Tensor>& inputs, bool backward) {
  const size_t q = backward ? 1 : 0;
  if (inputs.size() < q + 2) return 0;
  return (backward ? 2.5 : 1.0) * 4.0 * inputs[q].numel() * inputs[q + 1].size(-2);
}
}  // namespace pretended
