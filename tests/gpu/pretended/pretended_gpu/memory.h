// What torch asks of a build with CUDA besides kernels: memory, a current device, random numbers, "is there a GPU?".
#pragma once
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <atomic>

namespace pretended {
static const c10::Device GPU(c10::kCUDA, 0);

// ---- memory: ordinary memory under another label, counted and limited as a card's ----
static std::atomic<int64_t> in_use{0}, peak{0}, most{0}, limit{0};  // peak can be reset, most is of the whole run

static void claim(int64_t n_bytes) {
  TORCH_CHECK_WITH(OutOfMemoryError, in_use + n_bytes <= limit, "CUDA out of memory. Tried to allocate ", n_bytes >> 20,
                   " MiB; ", in_use >> 20, " of ", limit >> 20, " MiB are in use (of a pretended GPU)");
  const int64_t now = in_use += n_bytes;
  for (auto* highest : {&peak, &most})
    for (int64_t before = *highest; before < now && !highest->compare_exchange_weak(before, now);) {}
}

struct Block {  // keeps the memory alive, and counts it for as long
  c10::DataPtr own;     // made for the GPU, or
  c10::Storage result;  // what a CPU kernel returned
  int64_t n_bytes;
  static void release(void* block) {
    in_use -= static_cast<Block*>(block)->n_bytes;
    delete static_cast<Block*>(block);
  }
};

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t n_bytes) override {
    claim(n_bytes);
    auto* block = new Block{c10::GetAllocator(c10::kCPU)->allocate(n_bytes), {}, int64_t(n_bytes)};
    return {block->own.get(), block, &Block::release, GPU};
  }
  void copy_data(void* to, const void* from, size_t n_bytes) const override { default_copy_data(to, from, n_bytes); }
};
static Allocator allocator;

static c10::DataPtr relabelled(const c10::Storage& cpu) {
  claim(cpu.nbytes());
  return {cpu.mutable_data(), new Block{{}, cpu, int64_t(cpu.nbytes())}, &Block::release, GPU};
}

// ---- the current device: there is one, and one stream ----
struct Guard final : c10::impl::NoOpDeviceGuardImpl<c10::kCUDA> {
  c10::Stream stream() const { return c10::Stream(c10::Stream::DEFAULT, GPU); }
  c10::Device exchangeDevice(c10::Device) const override { return GPU; }
  c10::Device getDevice() const override { return GPU; }
  c10::Stream getStream(c10::Device) const noexcept override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return stream(); }
};

// ---- random numbers: a generator that says cuda and draws with a CPU generator inside ----
struct Generator final : c10::GeneratorImpl {
  explicit Generator(at::Generator g)
      : GeneratorImpl(GPU, c10::DispatchKeySet(c10::DispatchKey::CUDA)), inner(std::move(g)) {}
  void set_current_seed(uint64_t seed) override { inner.set_current_seed(seed); }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& state) override { inner.unsafeGetGeneratorImpl()->set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return inner.unsafeGetGeneratorImpl()->get_state(); }
  Generator* clone_impl() const override { return new Generator(inner.clone()); }
  at::Generator inner;
};

static at::Generator inner_of(const at::Generator& gpu) {
  return static_cast<Generator*>(gpu.unsafeGetGeneratorImpl())->inner;
}

static const at::Generator& default_generator() {
  static at::Generator it = at::make_generator<Generator>(at::detail::createCPUGenerator(0));
  return it;
}
}  // namespace pretended

// ---- "is there a GPU?": torch looks this class up by its name, once, while it is imported ----
namespace at {
struct CUDAHooks final : CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return 1; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  void deviceSynchronize(DeviceIndex) const override {}
  Device getDeviceFromPtr(void*) const override { return pretended::GPU; }
  Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(c10::kCPU); }
  Allocator* getCUDADeviceAllocator() const override { return &pretended::allocator; }
  const Generator& getDefaultGenerator(DeviceIndex) const override { return pretended::default_generator(); }
  Generator getNewGenerator(DeviceIndex) const override {
    static bool first = true;  // torch.cuda takes the first one made for its default one
    return std::exchange(first, false) ? pretended::default_generator()
                                       : make_generator<pretended::Generator>(at::detail::createCPUGenerator());
  }
};
REGISTER_CUDA_HOOKS(CUDAHooks);
}  // namespace at
