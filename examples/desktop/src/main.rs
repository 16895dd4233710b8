//! A photo sorter that learns from a few pictures: open a folder, make classes, show it some photos of each, correct what is
//! wrong. tipi works on the GPU device that draws the window.

mod desk;
mod files;
mod marks;
mod session;
mod thumbs;
mod view;
mod work;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use clap::Parser;
use eframe::egui;
use eframe::egui_wgpu::{self, WgpuSetup, WgpuSetupCreateNew, wgpu};
use tipi::{Gpu, HostDevice, HostOptions};
use winit::application::ApplicationHandler;
use winit::event::{DeviceEvent, DeviceId, StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, EventLoop};
use winit::window::WindowId;

/// Sorts photos into classes that it learns from a few examples.
#[derive(Parser)]
#[command(name = "tipi-sorter", version, about)]
struct Args {
    /// The folder of photos to open.
    folder: Option<PathBuf>,
    /// The folder of the model: a CLIP in any layout that tipi reads. By default the bundled one, where there is one.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The prompt, with {} where the class's name goes.
    #[arg(long)]
    template: Option<String>,
    /// Light or dark; by default as the system has it.
    #[arg(long, value_parser = ["light", "dark"])]
    theme: Option<String>,
    /// Write where things are in the window to a file, for a script that drives it.
    #[arg(long, value_name = "FILE", hide = true)]
    marks: Option<PathBuf>,
}

fn main() -> eframe::Result {
    let args = Args::parse();
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("tipi sorter")
            .with_app_id("tipi-sorter")
            .with_inner_size([1200.0, 780.0])
            .with_min_inner_size([720.0, 480.0])
            .with_drag_and_drop(true),
        wgpu_options: egui_wgpu::WgpuConfiguration { wgpu_setup: WgpuSetup::CreateNew(device()), ..Default::default() },
        ..Default::default()
    };
    let gpu = Arc::new(OnceLock::new());
    let opened = gpu.clone();
    let events = EventLoop::<eframe::UserEvent>::with_user_event().build()?;
    let create = move |creation: &eframe::CreationContext<'_>| {
        let desk = open(creation, args)?;
        let _ = opened.set(desk.gpu.clone());
        Ok(Box::new(desk) as Box<dyn eframe::App>)
    };
    let window = eframe::create_native("tipi-sorter", options, Box::new(create), &events);
    Ok(events.run_app(&mut Beside { window, gpu })?)
}

/// The window, with tipi beside it: while egui draws or changes the surface's size, nothing of tipi's is submitted, which wgpu
/// does not allow.
struct Beside<'a> {
    window: eframe::EframeWinitApplication<'a>,
    gpu: Arc<OnceLock<Gpu>>,
}

impl ApplicationHandler<eframe::UserEvent> for Beside<'_> {
    fn resumed(&mut self, events: &ActiveEventLoop) {
        self.window.resumed(events);
    }

    fn window_event(&mut self, events: &ActiveEventLoop, window: WindowId, event: WindowEvent) {
        let _hold = self.gpu.get().map(Gpu::hold);
        self.window.window_event(events, window, event);
    }

    fn new_events(&mut self, events: &ActiveEventLoop, cause: StartCause) {
        self.window.new_events(events, cause);
    }

    fn user_event(&mut self, events: &ActiveEventLoop, event: eframe::UserEvent) {
        self.window.user_event(events, event);
    }

    fn device_event(&mut self, events: &ActiveEventLoop, device: DeviceId, event: DeviceEvent) {
        self.window.device_event(events, device, event);
    }

    fn about_to_wait(&mut self, events: &ActiveEventLoop) {
        self.window.about_to_wait(events);
    }

    fn suspended(&mut self, events: &ActiveEventLoop) {
        self.window.suspended(events);
    }

    fn exiting(&mut self, events: &ActiveEventLoop) {
        self.window.exiting(events);
    }
}

/// The window's device, with what tipi can use besides what egui needs.
fn device() -> WgpuSetupCreateNew {
    let mut setup = WgpuSetupCreateNew::without_display_handle();
    setup.instance_descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let of_egui = setup.device_descriptor.clone();
    setup.device_descriptor = Arc::new(move |adapter| {
        let mut descriptor = of_egui(adapter);
        Gpu::wanted_of(adapter).merge(&mut descriptor);
        descriptor
    });
    setup
}

fn open(
    creation: &eframe::CreationContext<'_>,
    args: Args,
) -> Result<desk::Desk, Box<dyn std::error::Error + Send + Sync>> {
    let state = creation.wgpu_render_state.as_ref().ok_or("the window is not drawn by wgpu")?;
    let host = HostDevice { adapter: state.adapter.clone(), device: state.device.clone(), queue: state.queue.clone() };
    let gpu = Gpu::on(host, &HostOptions::default())?;
    let context = &creation.egui_ctx;
    view::theme::apply(context);
    match args.theme.as_deref() {
        Some("light") => context.set_theme(egui::Theme::Light),
        Some(_) => context.set_theme(egui::Theme::Dark),
        None => {}
    }
    let mut desk = desk::Desk::new(context, gpu, args.template.as_deref(), args.marks)?;
    if let Some(model) = args.model.or_else(bundled) {
        desk.load(model);
    }
    if let Some(folder) = args.folder {
        desk.open(folder);
    }
    Ok(desk)
}

/// The small model of the repository that this was built in.
fn bundled() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../weights/picto");
    folder.canonicalize().ok()
}
