// What the files of a portable checkpoint hold.
//
// A training state is cut into as many files as is wanted, each with 1/N of every unit: at most one
// tensor of each kind, whatever the blocks were that it was stored in.
//
//   layers.3.mlp/w         weights, in the run's precision
//   layers.3.mlp/master    fp32, where the format is fp32
//   layers.3.mlp/lo        int16, the masters' remainders (split, int8): see split_master.h
//   layers.3.mlp/m, /v     fp32; int8: codes, and their scales in /m.scale, /v.scale
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/checkpoint/tensor_directory.h"
#include "engine/zero/state_layout.h"

namespace strata::engine {

// Elements [first, first + num_elements) of a unit: its state of one kind. Of coded moments either
// the codes or their scales.
struct PortableTensor {
  uint32_t unit = 0;
  StateKind kind = StateKind::kWeights;
  bool is_scales = false;
  uint64_t first = 0;
  uint64_t num_elements = 0;
};

struct PortableFile {
  TensorFile file;
  std::vector<PortableTensor> tensors;  // by the file's entries
};

// "rank-0-of-2.safetensors"
std::string PortableFileName(uint32_t rank, uint32_t num_files);

// `layout`: units, precision and format; how it is sharded does not matter.
std::vector<PortableFile> PortableFilesOf(const StateLayout& layout, uint32_t num_files);

}  // namespace strata::engine
