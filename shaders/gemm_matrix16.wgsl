enable f16;
enable wgpu_cooperative_matrix;
// Matrix units of 16×16 with f16 operands, as Vulkan drivers of NVIDIA and AMD offer them; for gemm_matrix.wgsl.
//# import gemm_matrix

alias Element = f16;
alias MatrixA = coop_mat16x16<f16, A>;
alias MatrixB = coop_mat16x16<f16, B>;
alias MatrixC = coop_mat16x16<f32, C>;
const SIDE: u32 = 16u;
