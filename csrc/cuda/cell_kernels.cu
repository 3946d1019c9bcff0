// The kernels for hard labels and images of lower resolution, which go cell by cell.
#include "cell_table.cuh"

namespace jml::cuda {

Kernels cell_kernels(Size size) { return cell_kernels_of<true>(size); }

}  // namespace jml::cuda
