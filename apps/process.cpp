#include "apps/process.h"

#include <ATen/Context.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace moe {

void prepare_process() {
#ifdef __GLIBC__
  // Mapping and unmapping temporaries of a step costs more than computing them.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2000 << 20);
#endif
  at::globalContext().setFlushDenormal(true);
}

} // namespace moe
