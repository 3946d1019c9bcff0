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

// An element of a tensor (N, ..., *spatial), which may be interpolated: its indices.
struct Element {
  std::vector<int64_t> index;

  Element(const Arguments& args, const Tensor& tensor, const Upsampling* upsampling,
          const FaultPlace& place)
      : index(tensor.dim()) {
    int64_t rest = place.position;
    for (int64_t d = tensor.dim() - 1; d > 0; --d) {
      const int64_t axis = d - tensor.dim() + 3;
      const bool is_larger = upsampling && axis >= 0 && upsampling->axis[axis].given;
      const int64_t size = is_larger ? args.spatial[axis] : tensor.size(d);
      index[d] = rest % size;
      rest /= size;
    }
    index[0] = place.image;
  }

  std::string text() const {
    std::string text;
    for (size_t d = 0; d < index.size(); ++d) text += (d ? ", " : "") + std::to_string(index[d]);
    return text;
  }

  int64_t offset(const Tensor& tensor) const {
    int64_t offset = 0;
    for (int64_t d = 0; d < tensor.dim(); ++d) offset += index[d] * tensor.stride(d);
    return offset;
  }

  // Its value, interpolated along dimension d and those behind it.
  double value(const Tensor& tensor, const TensorView& view, const Upsampling* upsampling,
               int64_t d = 0) const {
    if (d == tensor.dim()) {
      double value = 0;
      visit_dtype(view, [&](const auto* data) { value = convert<double>(data[offset(tensor)]); });
      return value;
    }
    const int64_t axis = d - tensor.dim() + 3;
    if (!upsampling || axis < 0 || !upsampling->axis[axis].given)
      return value(tensor, view, upsampling, d + 1);
    const UpsampledAxis& along = upsampling->axis[axis];
    Element low = *this;
    low.index[d] = along.lower[index[d]];
    const double lower = low.value(tensor, view, upsampling, d + 1);
    low.index[d] = along.upper(along.lower[index[d]]);
    const double upper = low.value(tensor, view, upsampling, d + 1);
    const double weight = along.weight[index[d]];
    return (1 - weight) * lower + weight * upper;
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
  const Element element(args, target, nullptr, *place);
  std::string value;
  visit_integer(view,
                [&](const auto* data) { value = std::to_string(data[element.offset(target)]); });
  throw std::out_of_range("target has label " + value + " at position (" + element.text() +
                          "): expected a label in [0, " + std::to_string(label_count) + ") or " +
                          ignore_index_text(args));
}

// Of a tensor in which probabilities are expected; `more` is what else is said of these.
inline void check_probabilities(const Arguments& args, int64_t Faults::*kind, const char* name,
                                const Tensor& tensor, const TensorView& view,
                                const Upsampling* upsampling, const std::string& more) {
  const std::optional<FaultPlace> place = first_fault(args, kind);
  if (!place) return;
  const Element element(args, tensor, upsampling, *place);
  const double value = element.value(tensor, view, upsampling);
  char text[32] = "nan";  // which may have a sign that Python does not show
  if (value == value) snprintf(text, sizeof(text), "%g", value);
  throw std::invalid_argument(std::string(name) + " has value " + text + " at position (" +
                              element.text() + "): expected a probability in [0, 1]" + more);
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
                        *inputs.dense, args.dense, args.dense_upsampling,
                        args.teacher              ? without_activation
                        : args.ignores_elements() ? " or " + ignore_index_text(args)
                                                  : "");
  if (args.activation == Activation::none)
    check_probabilities(args, &Faults::logits, "logits", inputs.logits, args.logits,
                        args.logits_upsampling, without_activation);
}

}  // namespace jml
