// The Python module jml_kernels._cpu. Importing it registers the operators (operators.cpp); what it
// holds is build information, for `jml-kernels info` and for tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>
#include <vector>

#include "columns.h"
#include "cpu/operators.h"
#include "tiles.h"

PYBIND11_MODULE(_cpu, m) {
  m.def(
      "build_info",
      [] {
        return std::map<std::string, std::string>{
            {"compiler", __VERSION__}, {"instruction set", jml::cpu_instruction_set()}};
      },
      "The compiler, and the instruction set that the kernels run with on this machine.");
  m.def(
      "columns",
      [] {
        return std::vector<std::string>(std::begin(jml::kColumnNames),
                                        std::end(jml::kColumnNames));
      },
      "The statistics' columns in the order of the kernels.");
  m.def("tile_pixels", &jml::cpu_tile_pixels, pybind11::arg("classes"),
        pybind11::arg("compute_bytes"), "Pixels of a tile on the CPU.");
}
