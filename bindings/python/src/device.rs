//! Devices.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};
use tipi::{DeviceOptions, Gpu};

use crate::errors::{Answer, type_name};
use crate::work::{of_this_process, watched};

/// A device that is there.
#[pyclass(frozen, get_all, module = "tipi")]
pub(crate) struct DeviceReport {
    /// Its number, which `Device` and `TIPI_DEVICE` take.
    index: usize,
    /// Its name.
    name: String,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    kind: &'static str,
    /// "Vulkan", "Metal" or "Dx12".
    backend: String,
    /// Driver and version.
    driver: String,
    /// What tipi would use of it.
    uses: Vec<&'static str>,
    /// Whether it is the one that is taken where none is named.
    default: bool,
}

#[pymethods]
impl DeviceReport {
    fn __repr__(&self) -> String {
        format!("DeviceReport({}, {:?}, {}, {})", self.index, self.name, self.kind, self.backend)
    }
}

/// The devices that there are.
#[pyfunction]
pub(crate) fn devices(py: Python<'_>) -> Answer<Vec<DeviceReport>> {
    let reports = watched(py, None, |_| tipi::list_devices())?;
    let of = |report: tipi::DeviceReport| {
        let tipi::DeviceReport { index, name, kind, backend, driver, uses, default, .. } = report;
        DeviceReport { index, name, kind, backend, driver, uses, default }
    };
    Ok(reports.into_iter().map(of).collect())
}

/// An open device. Models that share one share what is on it; those that are given none share the best one.
///
/// name: index or part of the name; None takes TIPI_DEVICE, else the best one.
/// memory: GPU memory in bytes that may be used; None takes what the driver says there is.
/// cache: folder for compiled kernels and for what was measured; None takes the user's cache folder.
/// portable: use no optional feature, as a plain device would run.
/// checked: keep index checks in the kernels. tune: choose kernels by measuring them. None takes TIPI_CHECKED and TIPI_TUNE.
#[pyclass(frozen, module = "tipi")]
pub(crate) struct Device {
    pub gpu: Gpu,
    options: DeviceOptions,
}

impl Device {
    fn open(py: Python<'_>, options: DeviceOptions) -> Answer<Device> {
        let asked = options.clone();
        let gpu = watched(py, None, move |_| Gpu::open(&asked))?;
        Ok(Device { gpu, options })
    }

    /// The device that an argument stands for: one that is open, one by name or number, or the one that all share.
    pub fn of(argument: &str, given: Option<&Bound<'_, PyAny>>, py: Python<'_>) -> Answer<Gpu> {
        static SHARED: Mutex<Option<Gpu>> = Mutex::new(None);
        let Some(given) = given else {
            of_this_process()?;
            let known = py.detach(|| SHARED.lock().unwrap_or_else(PoisonError::into_inner).clone());
            if let Some(gpu) = known {
                return Ok(gpu);
            }
            let opened = Device::open(py, DeviceOptions::default())?.gpu;
            // Two threads may have opened it; both use the one that was first.
            return Ok(
                py.detach(|| SHARED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(opened).clone())
            );
        };
        if let Ok(device) = given.cast::<Device>() {
            return Ok(device.get().gpu.clone());
        }
        let name = match given {
            name if name.is_instance_of::<PyString>() => name.extract::<String>()?,
            number if number.is_instance_of::<PyInt>() && !number.is_instance_of::<PyBool>() => {
                number.str()?.to_string()
            }
            other => {
                let other = type_name(other);
                let said = format!("{argument}: expected a Device, or the name or number of one, not {other}");
                return Err(PyTypeError::new_err(said).into());
            }
        };
        Ok(Device::open(py, DeviceOptions { device: Some(name), ..DeviceOptions::default() })?.gpu)
    }
}

impl Device {
    /// The device `gpu` that came of an argument, for Python.
    pub fn again(given: Option<&Bound<'_, PyAny>>, gpu: &Gpu, py: Python<'_>) -> PyResult<Py<Device>> {
        let device = match given {
            Some(device) if device.is_instance_of::<Device>() => return Ok(device.cast::<Device>()?.clone().unbind()),
            Some(name) => Some(name.str()?.to_string()),
            None => None,
        };
        Py::new(py, Device { gpu: gpu.clone(), options: DeviceOptions { device, ..DeviceOptions::default() } })
    }
}

/// What a pickle holds of a device.
type Pickled = (Option<String>, Option<u64>, Option<PathBuf>, bool, Option<bool>, Option<bool>);

#[pymethods]
impl Device {
    #[new]
    #[pyo3(signature = (name=None, memory=None, cache=None, portable=false, checked=None, tune=None))]
    fn new(
        py: Python<'_>,
        name: Option<String>,
        memory: Option<u64>,
        cache: Option<PathBuf>,
        portable: bool,
        checked: Option<bool>,
        tune: Option<bool>,
    ) -> Answer<Device> {
        let options =
            DeviceOptions { device: name, memory, cache, portable, checked, tune, ..DeviceOptions::default() };
        Device::open(py, options)
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.gpu.name()
    }

    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    #[getter]
    fn kind(&self) -> &'static str {
        self.gpu.kind()
    }

    /// Bytes of GPU memory that may be used in all; None where the driver does not say (Metal, Direct3D).
    #[getter]
    fn memory(&self) -> Option<u64> {
        self.gpu.memory()
    }

    /// Bytes of GPU memory that models and what runs them take, or that are kept for reuse.
    #[getter]
    fn allocated_bytes(&self) -> u64 {
        self.gpu.allocated_bytes()
    }

    /// The most bytes that `allocated_bytes` was at one time.
    #[getter]
    fn peak_bytes(&self) -> u64 {
        self.gpu.peak_bytes()
    }

    /// Gives back memory that is kept for reuse. What is made next takes a little longer.
    fn release(&self, py: Python<'_>) {
        py.detach(|| self.gpu.release());
    }

    /// Raises the first error that the driver reported, if any: whoever has been asleep learns so that the device is lost.
    fn check(&self) -> Answer<()> {
        Ok(self.gpu.check()?)
    }

    fn __repr__(&self) -> String {
        format!("Device({})", self.gpu.describe())
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Pickled)> {
        let DeviceOptions { device, memory, cache, portable, checked, tune, .. } = self.options.clone();
        Ok((py.get_type::<Device>().into_any(), (device, memory, cache, portable, checked, tune)))
    }
}
