enable wgpu_cooperative_matrix;
// Matrix units of 8×8 with f32 operands, as Metal offers them; for gemm_matrix.wgsl.
//# import gemm_matrix

alias Element = f32;
alias MatrixA = coop_mat8x8<f32, A>;
alias MatrixB = coop_mat8x8<f32, B>;
alias MatrixC = coop_mat8x8<f32, C>;
const SIDE: u32 = 8u;
