// The kernels for smoothed labels and images of lower resolution, which go cell by cell.
#include "cell_table.cuh"

namespace jml::cuda {

Kernels label_cell_kernels(Size size) { return cell_kernels_of<false>(size); }

}  // namespace jml::cuda
