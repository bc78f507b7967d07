// A pretended GPU for a CPU build of torch: tensors whose device is cuda:0 and whose bytes lie in ordinary memory.
//
// The dispatcher is torch's own. A CPU build has no kernel under the key CUDA; this file adds one for every operator:
// it checks devices as CUDA's kernels do, calls the CPU's kernel on the same bytes, and labels what comes back cuda:0.
// Everything above that key (autograd and its thread, autocast, composite operators, Python's bindings) is what a GPU
// runs.
#include <ATen/EmptyTensor.h>
#include <ATen/Functions.h>
#include <torch/library.h>

#include <string>
#include <unordered_map>

#include "cost.h"
#include "memory.h"

using at::Tensor;
using c10::DispatchKey;
using c10::DispatchKeySet;
using c10::IValue;
using namespace pretended;

// What Python has read in torch's own tables. An operator without an entry wants every tensor on one device.
enum Rule { SAME, SCALARS, ANYWHERE, INDICES, NO_KERNEL };
struct About {
  int rule = SAME;
  bool product = false, draws = false;
};
static std::unordered_map<std::string, About> known;
static bool multiplies_bfloat16 = true, shallow = false;

// ---- tensors among an operator's arguments ----
template <class F> static void each_tensor(const IValue& v, F f) {
  if (v.isTensor()) f(v.toTensor());
  if (v.isTensorList())
    for (const Tensor& t : v.toTensorVector()) f(t);
  if (v.isOptionalTensorList())
    for (const std::optional<Tensor>& t : v.toOptionalTensorList())
      if (t) f(*t);
}

template <class F> static void replace_tensors(IValue& v, F f) {
  if (v.isTensor()) {
    v = f(v.toTensor());
  } else if (v.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor& t : v.toTensorVector()) list.push_back(f(t));
    v = list;
  } else if (v.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const std::optional<Tensor>& t : v.toOptionalTensorList()) list.push_back(t ? std::optional(f(*t)) : t);
    v = list;
  }
}

static bool is_written(const c10::Argument& a) { return a.alias_info() && a.alias_info()->isWrite(); }

// ---- what is refused ----
static void check_devices(const c10::FunctionSchema& schema, at::ArrayRef<IValue> values, int rule) {
  std::optional<c10::Device> common;
  for (size_t i = 0; rule != ANYWHERE && i < values.size(); i++) {
    const auto& arg = schema.arguments()[i];
    each_tensor(values[i], [&](const Tensor& t) {
      if (!t.defined()) return;
      const bool is_index = rule == INDICES && arg.name() == "indices";
      if (is_index && t.is_cpu()) return;
      if (rule != SAME && t.is_cpu() && t.dim() == 0 && !is_written(arg)) return;  // a number, wherever it lies
      if (!common) common = t.device();
      TORCH_CHECK(!is_index || common == t.device(), "indices should be either on cpu or on the same device as the "
                  "indexed tensor (", *common, ")");
      TORCH_CHECK(rule != SAME || common == t.device(), "Expected all tensors to be on the same device, but got ",
                  arg.name(), " is on ", t.device(), ", different from other tensors on ", *common,
                  " (when checking argument in method wrapper_CUDA_", schema.name().substr(6), ")");
      TORCH_CHECK(common == t.device(), "Expected all tensors to be on the same device, but found at least two "
                  "devices, ", *common, " and ", t.device(), "! (", schema.name(), ")");
    });
  }
}

// Returns whether a matrix product is one of float16, which is computed in float32 as the units of a GPU add it up.
static bool check_product(const c10::FunctionSchema& schema, at::ArrayRef<IValue> values) {
  bool half = false;
  for (const IValue& v : values)
    each_tensor(v, [&](const Tensor& t) {
      half |= t.scalar_type() == at::kHalf;
      TORCH_CHECK(!c10::isIntegralType(t.scalar_type(), true), "\"", schema.name().substr(6),
                  "_cuda\" not implemented for '", t.scalar_type(), "'");
      if (t.scalar_type() == at::kBFloat16 && !multiplies_bfloat16)
        TORCH_WARN_ONCE("a product in bfloat16, which this card emulates slowly (", schema.name(), ")");
    });
  return half;
}

// ---- one operator's tensors under both labels ----
static Tensor labelled(const Tensor& t, c10::Storage storage, DispatchKey key, const Tensor& base = {}) {
  // A view has the keys of its base: in inference mode they are others than those of a new tensor.
  auto made = base.defined() ? at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, std::move(storage),
                                                                        base.key_set(), t.dtype())
                             : at::detail::make_tensor<c10::TensorImpl>(std::move(storage), DispatchKeySet(key),
                                                                        t.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  return made;
}

struct Call {
  struct Argument {
    Tensor gpu, cpu;  // the same bytes; widened: cpu is a copy in float32 instead
    bool written, widened;
  };
  struct Pair {
    c10::Storage cpu, gpu;
    Tensor base;  // the argument that has this storage; none for a result
  };
  std::vector<Argument> arguments;
  std::vector<Pair> storages;

  Tensor on_cpu(const Tensor& t, bool written, bool widen) {
    if (!t.defined() || !t.is_cuda()) return t;
    TORCH_CHECK(t.layout() == c10::kStrided, "the pretended GPU knows dense tensors only");
    const c10::Storage& gpu = t.storage();
    c10::DataPtr bytes(gpu.mutable_data(), new c10::Storage(gpu),
                       [](void* s) { delete static_cast<c10::Storage*>(s); }, c10::kCPU);
    c10::Storage storage(c10::Storage::use_byte_size_t(), gpu.nbytes(), std::move(bytes),
                         c10::GetAllocator(c10::kCPU), true);
    Tensor cpu = labelled(t, storage, DispatchKey::CPU);
    storages.push_back({storage, gpu, t});
    widen = widen && t.scalar_type() == at::kHalf;
    arguments.push_back({t, widen ? cpu.to(at::kFloat) : cpu, written, widen});
    return arguments.back().cpu;
  }

  Tensor on_gpu(const Tensor& t, bool narrow) {
    if (!t.defined() || !t.is_cpu()) return t;
    for (auto& a : arguments)
      if (a.cpu.is_same(t)) return a.gpu;  // out=, in place
    if (narrow && t.scalar_type() == at::kFloat) return on_gpu(t.to(at::kHalf), false);
    for (auto& [cpu, gpu, base] : storages)  // a view of an argument, or of another result
      if (cpu.unsafeGetStorageImpl() == t.storage().unsafeGetStorageImpl())
        return labelled(t, gpu, DispatchKey::CUDA, base);
    c10::Storage gpu(c10::Storage::use_byte_size_t(), t.storage().nbytes(), relabelled(t.storage()), &allocator, true);
    storages.push_back({t.storage(), gpu, {}});
    return labelled(t, gpu, DispatchKey::CUDA);
  }

  void write_back() {  // results in widened copies, and outputs that the CPU's kernel has resized
    for (auto& [gpu, cpu, written, widened] : arguments) {
      if (!written) continue;
      if (widened) {
        gpu.resize_(cpu.sizes()).copy_(cpu);
        continue;
      }
      auto* storage = gpu.storage().unsafeGetStorageImpl();
      if (cpu.storage().data() != storage->data() || cpu.storage().nbytes() != storage->nbytes()) {
        storage->set_data_ptr_noswap(relabelled(cpu.storage()));
        storage->set_nbytes(cpu.storage().nbytes());
      }
      gpu.unsafeGetTensorImpl()->set_sizes_and_strides(cpu.sizes(), cpu.strides(), cpu.storage_offset());
    }
  }
};

// ---- the one kernel ----
// A number outside its table, met by a kernel: CUDA's kernels assert, without saying which. (Wrong axes, and x[7], are
// seen before any kernel.)
static bool is_assertion(const c10::Error& error) {
  const std::string said = error.what_without_backtrace();
  if (dynamic_cast<const c10::IndexError*>(&error)) return said.find("Dimension") == std::string::npos;
  return said.find("is out of bounds for dimension") != std::string::npos;
}

static void compute(const c10::OperatorHandle& op, const std::string& name, torch::jit::Stack* stack) {
  try {
    op.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), stack);
  } catch (const c10::Error& error) {
    if (!is_assertion(error)) throw;
    TORCH_CHECK(false, "CUDA error: device-side assert triggered (", name, ": ", error.what_without_backtrace(), ")");
  }
}

// Drawn from the GPU's own default generator: it changes places with the CPU's.
static void compute_with_draws(const c10::OperatorHandle& op, const std::string& name, torch::jit::Stack* stack) {
  auto* cpu = at::detail::getDefaultCPUGenerator().unsafeGetGeneratorImpl();
  auto* gpu = inner_of(default_generator()).unsafeGetGeneratorImpl();
  const auto before = cpu->get_state();
  cpu->set_state(*gpu->get_state());
  compute(op, name, stack);
  gpu->set_state(*cpu->get_state());
  cpu->set_state(*before);
}

// For a rehearsal: of the sums a product of two matrices takes, the first term alone. Shapes and types are the same.
static void cut_short(const c10::FunctionSchema& schema, torch::jit::Stack* stack, size_t begin) {
  std::vector<size_t> tensors;
  for (size_t i = 0; i < schema.arguments().size(); i++)
    if ((*stack)[begin + i].isTensor() && !schema.arguments()[i].is_out()) tensors.push_back(begin + i);
  if (tensors.size() < 2) return;
  const size_t last = tensors.back(), first = tensors[tensors.size() - 2];
  const Tensor a = (*stack)[first].toTensor(), b = (*stack)[last].toTensor();
  if (a.dim() < 2 || b.dim() < 2 || a.size(-1) != b.size(-2) || a.size(-1) < 2) return;
  (*stack)[first] = a.narrow(-1, 0, 1).contiguous();
  (*stack)[last] = b.narrow(-2, 0, 1).contiguous();
}

static Work work_of(const c10::FunctionSchema& schema, const About& about, const std::vector<Tensor>& inputs,
                    at::ArrayRef<IValue> results) {
  Work work;
  std::vector<Tensor> made;
  for (const IValue& v : results)
    each_tensor(v, [&](const Tensor& t) {
      if (t.defined()) made.push_back(t);
    });
  for (const Tensor& t : made)  // the same bytes under another shape, and nothing written: no kernel
    for (const Tensor& given : inputs) work.view |= t.is_alias_of(given) && !t.is_same(given);
  if (work.view || made.empty() || inputs.empty()) return work;
  for (const std::vector<Tensor>& tensors : {inputs, made})
    for (const Tensor& t : tensors) work.bytes += t.nbytes();
  for (const Tensor& t : inputs) work.sixteen |= t.element_size() == 2;
  if (about.product) work.flops = product_flops(inputs, made[0]);
  const bool attention = schema.name().find("scaled_dot_product") != std::string::npos;
  if (attention) work.flops = attention_flops(inputs, schema.name().find("backward") != std::string::npos);
  return work;
}

static void kernel(const c10::OperatorHandle& op, DispatchKeySet, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto name = schema.name() + (schema.overload_name().empty() ? "" : "." + schema.overload_name());
  const auto found = known.find(name);
  const About about = found == known.end() ? About{} : found->second;
  TORCH_CHECK_NOT_IMPLEMENTED(about.rule != NO_KERNEL, "Could not run '", name, "' with arguments from the 'CUDA' "
                              "backend (native_functions.yaml names no kernel of it for CUDA)");
  const size_t n = schema.arguments().size(), begin = stack->size() - n;
  const at::ArrayRef<IValue> given(stack->data() + begin, n);
  check_devices(schema, given, about.rule);
  at::AutoDispatchBelowADInplaceOrView below;
  const bool half = about.product && check_product(schema, given);
  bool named_generator = false, is_gpus = false;  // one of its generators brings a call here from the CPU as well
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < n; i++) {
    is_gpus |= given[i].isDevice() && given[i].toDevice().is_cuda();
    each_tensor(given[i], [&](const Tensor& t) {
      is_gpus |= t.is_cuda();
      if (t.defined() && !schema.arguments()[i].is_out()) inputs.push_back(t);
    });
  }
  Call call;
  for (size_t i = 0; i < n; i++) {
    IValue& v = (*stack)[begin + i];
    const bool written = is_written(schema.arguments()[i]);
    replace_tensors(v, [&](const Tensor& t) { return call.on_cpu(t, written, half); });
    if (v.isDevice()) v = c10::Device(c10::kCPU);
    if (v.isGenerator()) {
      const auto wanted = is_gpus ? c10::kCUDA : c10::kCPU, got = v.toGenerator().device().type();
      TORCH_CHECK(wanted == got, "Expected a '", wanted, "' device type for generator but found '", got, "'");
      v = inner_of(v.toGenerator());
      named_generator = true;
    }
  }
  if (shallow && about.product) cut_short(schema, stack, begin);
  const double start = now();
  (about.draws && !named_generator ? compute_with_draws : compute)(op, name, stack);
  const size_t n_results = schema.returns().size();
  for (size_t i = stack->size() - n_results; i < stack->size(); i++)
    replace_tensors((*stack)[i], [&](const Tensor& t) { return call.on_gpu(t, half); });
  call.write_back();
  const at::ArrayRef<IValue> results(stack->data() + stack->size() - n_results, n_results);
  costs.add(work_of(schema, about, inputs, results), now() - start);
}

// ---- what that kernel cannot do: make memory, and take a storage as an argument ----
static at::ScalarType type(std::optional<at::ScalarType> t) {
  return t.value_or(at::get_default_dtype_as_scalartype());
}

static Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                    std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic_symint(size, &allocator, DispatchKeySet(DispatchKey::CUDA), type(dtype), format);
}

static Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                            std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, DispatchKeySet(DispatchKey::CUDA), type(dtype));
}

static Tensor& set_part(Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef size,
                        at::IntArrayRef stride) {
  TORCH_CHECK(source.device() == GPU, "a tensor on cuda:0 cannot have a storage on ", source.device());
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(source);
  impl->set_sizes_contiguous(size);
  impl->set_storage_offset(offset);
  if (!stride.empty()) impl->set_sizes_and_strides(size, stride);
  return self;
}

static Tensor& set_whole(Tensor& self, at::Storage source) {
  return set_part(self, source, 0, {int64_t(source.nbytes() / self.dtype().itemsize())}, {});
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&kernel>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("set_.source_Storage", set_whole);
  m.impl("set_.source_Storage_storage_offset", set_part);
  m.impl("copy_", torch::CppFunction::makeFromBoxedFunction<&kernel>());  // a composite that asks for a kernel itself
}

// ---- what Python calls ----
extern "C" {
void pretend_begin(int64_t n_bytes, int bfloat16, int rehearse) {
  static const Guard guard;
  c10::impl::device_guard_impl_registry[size_t(c10::kCUDA)].store(&guard);
  c10::SetAllocator(c10::kCUDA, &allocator);
  limit = n_bytes;
  multiplies_bfloat16 = bfloat16 != 0, shallow = rehearse != 0;
}
void pretend_rule(const char* name, int rule, int product, int draws) {
  known[name] = {rule, product != 0, draws != 0};
}
int64_t pretend_in_use() { return in_use; }
int64_t pretend_peak() { return peak; }
void pretend_reset_peak() { peak = in_use.load(); }
int64_t pretend_most() { return most; }
void pretend_card(double flops16, double flops32, double bandwidth, double launch) {
  costs.cards.push_back({flops16, flops32, bandwidth, launch});
}
// calls, bytes, flops, seconds here, and the seconds of each card: read, or added to
void pretend_costs(double* out) {
  out[0] = costs.calls, out[1] = costs.bytes, out[2] = costs.flops, out[3] = costs.here;
  for (size_t i = 0; i < costs.cards.size(); i++) out[4 + i] = costs.seconds[i];
}
void pretend_add_costs(const double* more) {
  costs.calls += more[0], costs.bytes += more[1], costs.flops += more[2];
  for (size_t i = 0; i < costs.cards.size(); i++) costs.seconds[i] += more[4 + i];
}
}
