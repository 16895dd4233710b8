enable f16;
enable wgpu_cooperative_matrix;
// Matrix units of 8×8 with f16 operands, as Mesa's CPU driver offers them; for gemm_matrix.wgsl.
//# import gemm_matrix

alias Element = f16;
alias MatrixA = coop_mat8x8<f16, A>;
alias MatrixB = coop_mat8x8<f16, B>;
alias MatrixC = coop_mat8x8<f32, C>;
const SIDE: u32 = 8u;
