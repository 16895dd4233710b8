// The same as fewshot.c from C++: handles free themselves, and failures are exceptions.
//
//   fewshot MODEL FOLDER METHOD ADAPTER PICTURE...
//
// docs/src/c.md says how to compile it.

#include <exception>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tipi.h>

namespace tipi {

inline std::string_view view(TipiStr text) { return {text.data, text.length}; }
inline TipiStr str(std::string_view text) { return {text.data(), text.size()}; }

// What went wrong, with its kind.
struct Error : std::runtime_error {
    explicit Error(TipiStatus kind) : std::runtime_error(std::string(view(tipi_last_error()))), status(kind) {}
    TipiStatus status;
};

inline void check(TipiStatus status)
{
    if (status != TIPI_OK) {
        throw Error(status);
    }
}

// A handle that is freed with its scope. It can be moved, not copied.
template <typename T>
class Handle {
public:
    Handle() = default;
    Handle(Handle &&other) noexcept : pointer(std::exchange(other.pointer, nullptr)) {}
    Handle &operator=(Handle &&other) noexcept
    {
        std::swap(pointer, other.pointer);
        return *this;
    }
    ~Handle() { tipi_free(pointer); }

    T *get() const { return pointer; }

    // Calls a function with arguments and the place for a handle, which is its last argument.
    template <typename Function, typename... Arguments>
    static Handle of(Function function, Arguments... arguments)
    {
        Handle made;
        check(function(arguments..., &made.pointer));
        return made;
    }

private:
    T *pointer = nullptr;
};

// A TipiWatch that calls what it is given. An exception stops the work, and is thrown again by `made`.
class Watch {
public:
    using Progress = std::function<void(const TipiProgress &)>;

    explicit Watch(Progress to_call) : progress(std::move(to_call))
    {
        watch.size = sizeof watch;
        watch.data = this;
        watch.progress = [](void *data, const TipiProgress *told) noexcept -> int32_t {
            auto *self = static_cast<Watch *>(data);
            try {
                self->progress(*told);
                return 0;
            } catch (...) {
                self->thrown = std::current_exception();
                return 1;
            }
        };
    }
    Watch(const Watch &) = delete;
    Watch &operator=(const Watch &) = delete;

    // What a function makes that is given this watch and the place for a handle.
    template <typename T, typename Work>
    Handle<T> made(Work work)
    {
        thrown = nullptr;
        try {
            return Handle<T>::of(work, &watch);
        } catch (const Error &) {
            if (thrown) {
                std::rethrow_exception(thrown);
            }
            throw;
        }
    }

private:
    TipiWatch watch{};
    Progress progress;
    std::exception_ptr thrown;
};

} // namespace tipi

namespace {

using tipi::check;
using tipi::Handle;
using tipi::str;
using tipi::view;

Handle<TipiClassifier> learn(const Handle<TipiModel> &model, const std::string &folder, std::string_view method,
                             tipi::Watch &watch)
{
    auto all = Handle<TipiExamples>::of(tipi_examples_of_folder, str(folder));
    auto chosen = watch.made<TipiExamples>([&](const TipiWatch *watching, TipiExamples **place) {
        return tipi_examples_choose(all.get(), 2, 1, watching, place, nullptr);
    });
    const TipiStr icon = str("an icon of {}");
    TipiFitOptions options{};
    options.size = sizeof options;
    options.method = str(method);
    options.templates = &icon;
    options.template_count = 1;
    return watch.made<TipiClassifier>([&](const TipiWatch *watching, TipiClassifier **place) {
        return tipi_model_fit(model.get(), chosen.get(), &options, watching, place, nullptr);
    });
}

void predict(const Handle<TipiClassifier> &classifier, const std::vector<std::string> &paths)
{
    auto pictures = Handle<TipiPictures>::of(tipi_pictures_new);
    for (const auto &path : paths) {
        check(tipi_pictures_add_file(pictures.get(), str(path)));
    }
    auto answers = Handle<TipiPredictions>::of(tipi_classifier_predict, classifier.get(), pictures.get(), nullptr);
    for (std::size_t i = 0; i < paths.size(); ++i) {
        TipiPrediction answer;
        check(tipi_predictions_get(answers.get(), i, &answer));
        if (answer.status != TIPI_OK) {
            std::cout << view(answer.message) << '\n';
        } else {
            std::cout << paths[i] << ": " << (answer.unknown ? std::string_view("unknown") : view(answer.best.name)) << '\n';
        }
    }
}

int run(const std::vector<std::string> &arguments)
{
    if (arguments.size() < 6) {
        throw std::invalid_argument("usage: fewshot MODEL FOLDER METHOD ADAPTER PICTURE...");
    }
    auto gpu = Handle<TipiGpu>::of(tipi_gpu_open, uint32_t{TIPI_ABI_VERSION}, nullptr);
    auto model = Handle<TipiModel>::of(tipi_model_load, gpu.get(), str(arguments[1]), nullptr, nullptr);
    tipi::Watch watch([](const TipiProgress &told) {
        if (told.done == told.total) {
            std::cerr << view(told.what) << ": " << told.total << " done\n";
        }
    });
    auto learned = learn(model, arguments[2], arguments[3], watch);
    check(tipi_classifier_save(learned.get(), str(arguments[4])));
    auto asking = Handle<TipiClassifier>::of(tipi_classifier_asking_for, learned.get(), 0.5);
    predict(asking, {arguments.begin() + 5, arguments.end()});

    // What a callback throws comes out where the work was asked for.
    tipi::Watch impatient([](const TipiProgress &) { throw std::runtime_error("no patience"); });
    try {
        learn(model, arguments[2], arguments[3], impatient);
    } catch (const std::runtime_error &error) {
        std::cerr << "stopped: " << error.what() << '\n';
    }
    // Failures have a kind and a message.
    try {
        Handle<TipiClassifier>::of(tipi_model_open_adapter, model.get(), str("/no/such/adapter"));
    } catch (const tipi::Error &error) {
        std::cerr << view(tipi_status_name(error.status)) << ": " << error.what() << '\n';
    }
    return 0;
}

} // namespace

int main(int count, char **arguments)
{
    try {
        int status = run({arguments, arguments + count});
        return tipi_live_handles() == 0 ? status : 1;
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
