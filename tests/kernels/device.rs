//! The device: transfers, the books of memory, timestamps.

use tipi::Error;
use tipi::low_level::gpu::{DType, DeviceOptions, Gpu, Recorder};
use tipi::low_level::kernels::gemm::{self, Epilogue, Kernel, Layout, Precision};
use tipi::low_level::kernels::softmax;

use crate::{bits, gpu, plan_on, run1, up, up_u32};

#[test]
fn what_is_not_finite_does_not_leave_the_gpu_in_silence() {
    for (wrong, at) in [(f32::NAN, 7), (f32::INFINITY, 0), (f32::NEG_INFINITY, 11)] {
        let mut x = vec![1.0; 12];
        x[at] = wrong;
        let named = up(&x, &[4, 3]).named("things", "somebody broke them");
        let error = gpu().read::<f32>(&named.reshape(&[4, 3]).unwrap()).unwrap_err();
        assert!(matches!(&error, Error::ResultNotFinite { wrong: 1, of: 12, row, .. } if *row == at / 3), "{error:?}");
        let text = error.to_string();
        assert!(
            text.starts_with("things came out as NaN or infinity") && text.ends_with("somebody broke them"),
            "{text}"
        );
        let unnamed = gpu().read::<f32>(&up(&x, &[12])).unwrap_err();
        assert!(unnamed.to_string().contains("computed on the GPU"), "{unnamed}");
        // Who asks for it gets what is there.
        let read = gpu().begin_read::<f32>(&named).unwrap().finish_unchecked().unwrap();
        assert_eq!(bits(&read), bits(&x));
        let half: Vec<half::f16> = x.iter().map(|v| half::f16::from_f32(*v)).collect();
        assert!(gpu().read::<half::f16>(&gpu().upload("test", &half, &[4, 3]).unwrap()).is_err());
    }
    assert_eq!(gpu().read::<u32>(&up_u32(&[u32::MAX])).unwrap(), [u32::MAX]);
    assert!(gpu().read::<f32>(&up(&[f32::MAX, f32::MIN, -0.0], &[3])).is_ok());
}

#[test]
fn the_pool_takes_buffers_back() {
    let gpu = Gpu::open(&DeviceOptions { checked: Some(true), tune: Some(false), ..Default::default() }).unwrap();
    for i in 0..20 {
        let x = gpu.upload("test", &vec![i as f32; 1000 + i], &[1000 + i]).unwrap();
        assert_eq!(gpu.read::<f32>(&x).unwrap(), vec![i as f32; 1000 + i]);
    }
    let bytes = gpu.allocated_bytes();
    assert!(bytes <= 3 * 4352, "{bytes} bytes for one tensor at a time");
}

/// Rows written piece by piece land where they belong, in buffers and in textures, padded or not.
#[test]
fn rows_are_written_one_piece_after_another() {
    let (rows, cols) = (7, 5);
    let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
    let half: Vec<half::f16> = values.iter().map(|v| half::f16::from_f32(*v)).collect();
    let gpu = gpu();
    let bytes: Vec<i8> = values.iter().map(|v| *v as i8).collect();
    for dtype in [DType::F32, DType::F16, DType::I8, DType::Texels, DType::HalfTexels, DType::ByteTexels] {
        let mut x = gpu.empty("rows", &[rows, cols], dtype).unwrap();
        if dtype == DType::I8 {
            x = x.with_scales(up(&[1.0; 7], &[rows])).unwrap();
        } else if dtype == DType::ByteTexels {
            x = x.with_scales(gpu.upload_texels("scales", &[1.0f32; 7], [1, rows]).unwrap()).unwrap();
        }
        for (first, count) in [(4, 3), (0, 1), (1, 3)] {
            let range = first * cols..(first + count) * cols;
            match dtype {
                DType::F32 | DType::Texels => gpu.write_rows(&x, first, &values[range]).unwrap(),
                DType::I8 | DType::ByteTexels => gpu.write_rows(&x, first, &bytes[range]).unwrap(),
                _ => gpu.write_rows(&x, first, &half[range]).unwrap(),
            }
        }
        // Read through products with the unit matrix, by all kernels that take this form here.
        let unit: Vec<f32> = (0..cols * cols).map(|i| f32::from(i % (cols + 1) == 0)).collect();
        let unit = up(&unit, &[cols, cols]);
        let problem = gemm::Problem { layout: Layout::Nt, m: cols, n: rows, k: cols, a: DType::F32, b: dtype };
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.takes(gpu.capabilities(), &problem)) {
            let y = run1(|rec| gemm::matmul_with(rec, kernel, Layout::Nt, &unit, &x, &Epilogue::default()));
            let got: Vec<f32> = (0..rows * cols).map(|i| y[i % cols * rows + i / cols]).collect();
            assert_eq!(got, values, "{dtype:?} by {kernel:?}");
        }
        assert!(gpu.write_rows(&x, 6, &values[..2 * cols]).is_err() && gpu.write_rows(&x, 0, &values[..3]).is_err());
    }
}

/// A rehearsal needs what the run itself then takes, byte for byte, and takes nothing.
#[test]
fn a_rehearsal_counts_what_a_run_takes() {
    let own = Gpu::open(&DeviceOptions { tune: Some(false), memory: Some(4 << 20), ..Default::default() }).unwrap();
    let work = |gpu: &Gpu, m: usize| {
        let x = gpu.upload("x", &vec![1.0f32; m * 300], &[m, 300])?;
        let w = gemm::freeze(gpu, "w", &vec![0.5; 70 * 300], [70, 300], Precision::F32)?;
        let mut rec = Recorder::new(gpu);
        let y = gemm::matmul(&mut rec, Layout::Nt, &x, &w, &Epilogue::default())?;
        let z = gemm::matmul(&mut rec, Layout::Nn, &y, &w, &Epilogue::default())?;
        drop(y);
        let plan = rec.finish()?;
        plan.run()?;
        Ok::<_, Error>((gpu.read::<f32>(&z)?, plan, x, w))
    };
    let rehearsal = own.rehearsal();
    let (zeros, _plan, _x, _w) = work(&rehearsal, 200).unwrap();
    assert_eq!(own.allocated_bytes(), 0, "a rehearsal takes no memory");
    assert_eq!(zeros, vec![0.0; 200 * 300]);
    let (z, plan, x, w) = work(&own, 200).unwrap();
    assert_eq!(z[0], 300.0 * 0.5 * 70.0 * 0.5);
    assert_eq!(rehearsal.allocated_bytes(), own.allocated_bytes());
    drop((plan, z));
    assert!(own.allocated_bytes() < rehearsal.allocated_bytes(), "a plan's memory is given back");
    // Too much is found out in both, with numbers, before the driver is asked.
    for gpu in [&own, &own.rehearsal()] {
        let error = work(gpu, 3000).err().unwrap().to_string();
        assert!(error.contains("of 4194304 bytes are left"), "{error}");
    }
    drop((x, w));
    // What lies in the pool makes room for what would not fit beside it.
    let large = own.empty("large", &[1000, 1000], DType::F32).unwrap();
    assert!(own.allocated_bytes() <= 4 << 20);
    drop(large);
}

#[test]
fn profiles_have_times() {
    let gpu =
        match Gpu::open(&DeviceOptions { profile: true, checked: Some(true), tune: Some(false), ..Default::default() })
        {
            // Some devices have no timestamps, and say so.
            Err(Error::Unsupported { .. }) => return,
            other => other.unwrap(),
        };
    let (m, n, k) = (200, 150, 300);
    let (a, b) = (gpu.zeros("a", &[m, k]).unwrap(), gpu.zeros("b", &[n, k]).unwrap());
    let (plan, y) = plan_on(&gpu, |rec| {
        let c = gemm::matmul_with(rec, Kernel::Rows, Layout::Nt, &a, &b, &Epilogue::default())?;
        softmax::forward(rec, &c)
    });
    assert_eq!(plan.labels(), ["gemm nt", "softmax"]);
    plan.run().unwrap();
    plan.run().unwrap();
    assert!((gpu.read::<f32>(&y).unwrap()[0] - 1.0 / n as f32).abs() < 1e-6);
    let rows = gpu.profile().unwrap().rows();
    assert_eq!(rows.len(), 2);
    assert!(rows[0].seconds >= rows[1].seconds, "slowest first");
    let row = rows.iter().find(|r| r.label == "gemm nt").unwrap();
    assert_eq!(row.calls, 2);
    assert!(row.seconds > 0.0 && row.seconds < 60.0, "{} s", row.seconds);
    assert_eq!(row.flops, 2.0 * 2.0 * (m * n * k) as f64);
    assert!(row.bytes > 0.0);
    // A device opened without it keeps none.
    assert!(self::gpu().profile().is_none());
}
