// Few-shot classification from C: learn from a folder of pictures with a sub-folder for each class, keep what was learned, and say
// what other pictures show.
//
//   fewshot MODEL FOLDER METHOD ADAPTER PICTURE...
//   fewshot weights/picto examples/pictos/shifted tip-adapter adapter.safetensors examples/pictos/shifted/bell/*.png
//
// docs/src/c.md says how to compile it.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <tipi.h>

// Ctrl-C sets it, and the next call of on_progress stops the work.
static volatile sig_atomic_t interrupted = 0;

static void on_interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

// What ends the program where a call fails: tipi says in one line what is wrong and what would be right.
static void check(TipiStatus status)
{
    if (status != TIPI_OK) {
        fprintf(stderr, "%s: %s\n", tipi_status_name(status).data, tipi_last_error().data);
        exit(EXIT_FAILURE);
    }
}

static int32_t on_progress(void *data, const TipiProgress *progress)
{
    // Each stretch of work ends with all of it done.
    if (progress->done == progress->total) {
        fprintf((FILE *)data, "%s: %llu done %s\n", progress->what.data, (unsigned long long)progress->total,
                progress->beside.data);
    }
    return interrupted;
}

static void on_note(void *data, TipiStr note)
{
    fprintf((FILE *)data, "note: %s\n", note.data);
}

static TipiGpu *open_device(void)
{
    TipiGpu *gpu;
    TipiGpuInfo info;
    check(tipi_gpu_open(TIPI_ABI_VERSION, NULL, &gpu));
    check(tipi_gpu_info(gpu, &info));
    fprintf(stderr, "%s\n", info.description.data);
    return gpu;
}

// Two pictures of each class to learn from, and up to two to choose settings on.
static TipiExamples *choose_examples(const char *folder, const TipiWatch *watch)
{
    TipiExamples *all, *chosen;
    TipiMessages *left_out;
    TipiExamplesInfo info;
    size_t count;
    check(tipi_examples_of_folder(tipi_str(folder), &all));
    check(tipi_examples_choose(all, 2, 1, watch, &chosen, &left_out));
    check(tipi_messages_count(left_out, &count));
    for (size_t i = 0; i < count; i++) {
        TipiStr message;
        check(tipi_messages_get(left_out, i, NULL, &message));
        fprintf(stderr, "left out: %s\n", message.data);
    }
    check(tipi_examples_info(chosen, &info));
    fprintf(stderr, "%zu classes: %zu pictures to learn from, %zu to validate on\n", info.classes, info.support,
            info.validation);
    check(tipi_free(left_out));
    check(tipi_free(all));
    return chosen;
}

// Learns by any method of the register, and writes an adapter that `tipi predict` reads, too.
static void learn(TipiModel *model, TipiExamples *examples, const char *method, const char *adapter,
                  const TipiWatch *watch)
{
    TipiClassifier *classifier;
    TipiReport *report;
    TipiReportInfo info;
    TipiStr template = tipi_str("an icon of {}");
    TipiFitOptions options = {0};
    options.size = sizeof options;
    options.method = tipi_str(method);
    options.templates = &template;
    options.template_count = 1;
    check(tipi_model_fit(model, examples, &options, watch, &classifier, &report));
    check(tipi_report_get(report, &info));
    fprintf(stderr, "%.1f %% of %zu validation pictures right\n", 100.0 * info.validation_accuracy,
            info.validation_pictures);
    check(tipi_classifier_save(classifier, tipi_str(adapter)));
    fprintf(stderr, "wrote %s\n", adapter);
    check(tipi_free(report));
    check(tipi_free(classifier));
}

// The picture in a file, by way of its bytes: as a program does that has it from the network.
static void add_bytes(TipiPictures *pictures, const char *path)
{
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = NULL;
    size_t length = 0, got;
    if (file == NULL) {
        // tipi says what is wrong with it when it is looked at.
        check(tipi_pictures_add_file(pictures, tipi_str(path)));
        return;
    }
    do {
        unsigned char *more = realloc(bytes, length + 65536);
        if (more == NULL) {
            fprintf(stderr, "%s: no memory\n", path);
            exit(EXIT_FAILURE);
        }
        bytes = more;
        got = fread(bytes + length, 1, 65536, file);
        length += got;
    } while (got > 0);
    fclose(file);
    check(tipi_pictures_add_encoded(pictures, tipi_str(path), bytes, length));
    // tipi has copied them.
    free(bytes);
}

// Says what pictures show: the three likeliest classes, or "unknown" where none has half of the probability.
static void predict(TipiModel *model, const char *adapter, TipiPictures *pictures, const TipiWatch *watch)
{
    TipiClassifier *plain, *classifier;
    TipiPredictions *predictions;
    size_t count;
    check(tipi_model_open_adapter(model, tipi_str(adapter), &plain));
    check(tipi_classifier_asking_for(plain, 0.5, &classifier));
    check(tipi_classifier_predict(classifier, pictures, watch, &predictions));
    check(tipi_predictions_count(predictions, &count));
    for (size_t i = 0; i < count; i++) {
        TipiText *name;
        TipiStr path;
        TipiPrediction answer;
        TipiScored top[3];
        size_t written;
        check(tipi_pictures_name(pictures, i, &name));
        check(tipi_text_get(name, &path));
        check(tipi_predictions_get(predictions, i, &answer));
        if (answer.status != TIPI_OK) {
            // One broken picture does not spoil the others.
            printf("%s\n", answer.message.data);
        } else {
            printf("%s: %s", path.data, answer.unknown ? "unknown" : answer.best.name.data);
            check(tipi_predictions_top(predictions, i, 3, top, &written));
            for (size_t j = 0; j < written; j++) {
                printf("%s%s %.1f %%", j == 0 ? " (" : ", ", top[j].name.data, 100.0 * top[j].probability);
            }
            printf(")\n");
        }
        check(tipi_free(name));
    }
    check(tipi_free(predictions));
    check(tipi_free(classifier));
    check(tipi_free(plain));
}

int main(int count, char **arguments)
{
    if (count < 6) {
        fprintf(stderr, "usage: %s MODEL FOLDER METHOD ADAPTER PICTURE...\nmethods:", arguments[0]);
        for (size_t i = 0; i < tipi_method_count(); i++) {
            TipiMethod method;
            check(tipi_method_get(i, &method));
            fprintf(stderr, " %s", method.name.data);
        }
        fprintf(stderr, "\n");
        return EXIT_FAILURE;
    }
    signal(SIGINT, on_interrupt);
    TipiWatch watch = {0};
    watch.size = sizeof watch;
    watch.progress = on_progress;
    watch.note = on_note;
    watch.data = stderr;

    TipiGpu *gpu = open_device();
    TipiModel *model;
    check(tipi_model_load(gpu, tipi_str(arguments[1]), NULL, &watch, &model));
    TipiExamples *examples = choose_examples(arguments[2], &watch);
    learn(model, examples, arguments[3], arguments[4], &watch);

    TipiPictures *pictures;
    check(tipi_pictures_new(&pictures));
    for (int i = 5; i < count; i++) {
        add_bytes(pictures, arguments[i]);
    }
    predict(model, arguments[4], pictures, &watch);

    check(tipi_free(pictures));
    check(tipi_free(examples));
    check(tipi_free(model));
    check(tipi_free(gpu));
    return tipi_live_handles() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
