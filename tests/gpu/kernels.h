// Three kernels in a dialect that every driver of this decade compiles for the card it has.
#pragma once

namespace mesh::facts {

// fill: words[i] = i * 2654435761 + seed. count_wrong: adds to *wrong how many words are not so. tick: adds to the
// first word until that many nanoseconds have passed.
inline constexpr char kKernels[] = R"ptx(
.version 7.0
.target sm_70
.address_size 64

.visible .entry fill(.param .u64 at, .param .u64 count, .param .u32 seed)
{
  .reg .pred %q;
  .reg .b32 %r<10>;
  .reg .b64 %d<10>;
  ld.param.u64 %d1, [at];
  ld.param.u64 %d2, [count];
  ld.param.u32 %r1, [seed];
  cvta.to.global.u64 %d1, %d1;
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.u32 %r5, %r2, %r3, %r4;
  mov.u32 %r6, %nctaid.x;
  mul.lo.u32 %r7, %r6, %r3;
  cvt.u64.u32 %d3, %r5;
  cvt.u64.u32 %d4, %r7;
again:
  setp.ge.u64 %q, %d3, %d2;
  @%q bra done;
  cvt.u32.u64 %r8, %d3;
  mad.lo.u32 %r9, %r8, 2654435761, %r1;
  shl.b64 %d5, %d3, 2;
  add.u64 %d6, %d1, %d5;
  st.global.u32 [%d6], %r9;
  add.u64 %d3, %d3, %d4;
  bra again;
done:
  ret;
}

.visible .entry count_wrong(.param .u64 at, .param .u64 count, .param .u32 seed, .param .u64 wrong)
{
  .reg .pred %q;
  .reg .b32 %r<12>;
  .reg .b64 %d<10>;
  ld.param.u64 %d1, [at];
  ld.param.u64 %d2, [count];
  ld.param.u32 %r1, [seed];
  ld.param.u64 %d7, [wrong];
  cvta.to.global.u64 %d1, %d1;
  cvta.to.global.u64 %d7, %d7;
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.u32 %r5, %r2, %r3, %r4;
  mov.u32 %r6, %nctaid.x;
  mul.lo.u32 %r7, %r6, %r3;
  cvt.u64.u32 %d3, %r5;
  cvt.u64.u32 %d4, %r7;
again:
  setp.ge.u64 %q, %d3, %d2;
  @%q bra done;
  cvt.u32.u64 %r8, %d3;
  mad.lo.u32 %r9, %r8, 2654435761, %r1;
  shl.b64 %d5, %d3, 2;
  add.u64 %d6, %d1, %d5;
  ld.global.u32 %r10, [%d6];
  add.u64 %d3, %d3, %d4;
  setp.eq.u32 %q, %r10, %r9;
  @%q bra again;
  red.global.add.u32 [%d7], 1;
  bra again;
done:
  ret;
}

.visible .entry tick(.param .u64 at, .param .u64 nanoseconds)
{
  .reg .pred %q;
  .reg .b32 %r<4>;
  .reg .b64 %d<8>;
  ld.param.u64 %d1, [at];
  ld.param.u64 %d2, [nanoseconds];
  cvta.to.global.u64 %d1, %d1;
  mov.u64 %d3, %globaltimer;
  add.u64 %d4, %d3, %d2;
again:
  ld.volatile.global.u32 %r1, [%d1];
  add.u32 %r1, %r1, 1;
  st.volatile.global.u32 [%d1], %r1;
  mov.u64 %d5, %globaltimer;
  setp.lt.u64 %q, %d5, %d4;
  @%q bra again;
  ret;
}
)ptx";

}  // namespace mesh::facts
