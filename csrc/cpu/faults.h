// What the kernels find wrong with the values of their tensors, as the exceptions that Python makes
// of it: IndexError of a label, ValueError of what is no probability. The words are those of
// jml_kernels/checks.py.
#pragma once

#include <algorithm>
#include <cstdio>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../operators.h"
#include "arguments.h"

namespace jml {

// Where a fault is: an image, and a position in it as `Faults` counts them.
struct FaultPlace {
  int64_t image, position;
};

// The first fault of a kind in the order of the tensor's elements. Each chunk of an image has its
// own first one, and which of these comes first is for their positions to say.
inline std::optional<FaultPlace> first_fault(const Arguments& args, int64_t Faults::*kind) {
  for (int64_t image = 0; image < args.images; ++image) {
    int64_t first = Faults::kNone;
    for (int64_t chunk = 0; chunk < args.chunks_per_image; ++chunk)
      first = std::min(first, args.faults[image * args.chunks_per_image + chunk].*kind);
    if (first != Faults::kNone) return FaultPlace{image, first};
  }
  return std::nullopt;
}

// An element of a tensor: its indices as text, and its distance from the first in memory.
struct Element {
  std::string indices;
  int64_t offset = 0;

  Element(const Tensor& tensor, const FaultPlace& place) {
    std::vector<int64_t> index(tensor.dim());
    int64_t rest = place.position;
    for (int64_t d = tensor.dim() - 1; d > 0; --d) {
      index[d] = rest % tensor.size(d);
      rest /= tensor.size(d);
    }
    index[0] = place.image;
    for (int64_t d = 0; d < tensor.dim(); ++d) {
      offset += index[d] * tensor.stride(d);
      indices += (d ? ", " : "") + std::to_string(index[d]);
    }
  }
};

inline std::string ignore_index_text(const Arguments& args) {
  return "ignore_index=" +
         (args.ignore_index == kNever ? "None" : std::to_string(args.ignore_index));
}

// Of labels, and of an integer dense target.
inline void check_labels(const Arguments& args, const Tensor& target, const TensorView& view,
                         int64_t label_count) {
  const std::optional<FaultPlace> place = first_fault(args, &Faults::label);
  if (!place) return;
  const Element element(target, *place);
  std::string value;
  visit_integer(view, [&](const auto* data) { value = std::to_string(data[element.offset]); });
  throw std::out_of_range("target has label " + value + " at position (" + element.indices +
                          "): expected a label in [0, " + std::to_string(label_count) + ") or " +
                          ignore_index_text(args));
}

// Of a tensor in which probabilities are expected; `more` is what else is said of these.
inline void check_probabilities(const Arguments& args, int64_t Faults::*kind, const char* name,
                                const Tensor& tensor, const TensorView& view,
                                const std::string& more) {
  const std::optional<FaultPlace> place = first_fault(args, kind);
  if (!place) return;
  const Element element(tensor, *place);
  double value = 0;
  visit_dtype(view, [&](const auto* data) { value = convert<double>(data[element.offset]); });
  char text[32] = "nan";  // which may have a sign that Python does not show
  if (value == value) snprintf(text, sizeof(text), "%g", value);
  throw std::invalid_argument(std::string(name) + " has value " + text + " at position (" +
                              element.indices + "): expected a probability in [0, 1]" + more);
}

// Raises an exception for the first fault, if there is one.
inline void check_faults(const Arguments& args, const Inputs& inputs) {
  if (args.has_labels())
    check_labels(args, *inputs.labels, args.labels, args.label_count());
  else if (args.integer_dense())
    check_labels(args, *inputs.dense, args.dense, 2);
  const std::string without_activation = " with activation='none'";
  if (args.holds_probabilities())
    check_probabilities(args, &Faults::dense, args.teacher ? "teacher_logits" : "target",
                        *inputs.dense, args.dense,
                        args.teacher              ? without_activation
                        : args.ignores_elements() ? " or " + ignore_index_text(args)
                                                  : "");
  if (args.activation == Activation::none)
    check_probabilities(args, &Faults::logits, "logits", inputs.logits, args.logits,
                        without_activation);
}

}  // namespace jml
