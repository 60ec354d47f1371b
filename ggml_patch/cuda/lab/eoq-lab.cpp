// The kernel laboratory: one operation at a time on a device, first against the CPU's truth, then timed beside a plain
// copy and llama.cpp's own types at the same shape. It also runs on the CPU, which is how it is tested.

#include "../../ggml/src/ggml-eoq.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

static const char * const USAGE =
    "usage: eoq-lab [options]\n"
    "\n"
    "  --device NAME     device of ggml (default: the first GPU, or else CPU)\n"
    "  --op LIST         of mul_mat, mul_mat_id, get_rows, cpy (default: all)\n"
    "  --types LIST      of eoq4, q4_K, iq4_xs, ... (default: all EOQ types, q2_K to q6_K, iq4_xs)\n"
    "  --rows N          rows of the weights (default: 4096)\n"
    "  --length K        length of a row (default: 14336)\n"
    "  --columns LIST    columns of activations, or rows to get (default: 1,2,4,8,16,512)\n"
    "  --experts N       experts of mul_mat_id, of which 2 are used (default: 8)\n"
    "  --memory MB       weights of one type, copies of one matrix, beyond any cache (default: 1024)\n"
    "  --repeat N        timings, of which the median counts; 0: only compare with the truth (default: 9)\n"
    "  --json FILE       write all results there\n"
    "\n"
    "Exit status 1: some result is not the CPU's.\n";

struct lab_options {
    std::string              device;
    std::vector<std::string> ops = { "mul_mat", "mul_mat_id", "get_rows", "cpy" };
    std::vector<std::string> types;
    std::vector<int64_t>     columns = { 1, 2, 4, 8, 16, 512 };
    int64_t                  rows = 4096, length = 14336, experts = 8, memory_mb = 1024;
    int                      repeat = 9;
    std::string              json;
};

struct lab_result {
    std::string op, type;
    int64_t     columns;
    double      error;    // normalised mean squared error of products; largest difference of weights
    bool        is_right;
    double      seconds;  // of one operation; 0: not timed
    double      bytes;    // of weights that it reads
};

[[noreturn]] static void fail(const std::string & message) {
    fprintf(stderr, "error: %s\n", message.c_str());
    exit(2);
}

static std::vector<std::string> split(const std::string & list) {
    std::vector<std::string> items;
    for (size_t start = 0; start <= list.size();) {
        const size_t comma = std::min(list.find(',', start), list.size());
        items.push_back(list.substr(start, comma - start));
        start = comma + 1;
    }
    return items;
}

static int64_t number(const std::string & option, const std::string & text, int64_t least) {
    char *        end   = nullptr;
    const int64_t value = strtoll(text.c_str(), &end, 10);
    if (text.empty() || *end != '\0' || value < least) {
        fail(option + " takes whole numbers from " + std::to_string(least) + ", not '" + text + "'");
    }
    return value;
}

static lab_options parse(int argc, char ** argv) {
    lab_options o;
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        if (name == "-h" || name == "--help") {
            fputs(USAGE, stdout);
            exit(0);
        }
        if (i + 1 == argc) {
            fail("unknown option, or one without its value: " + name);
        }
        const std::string value = argv[++i];
        if (name == "--device") {
            o.device = value;
        } else if (name == "--op") {
            o.ops = split(value);
        } else if (name == "--types") {
            o.types = split(value);
        } else if (name == "--rows") {
            o.rows = number(name, value, 1);
        } else if (name == "--length") {
            o.length = number(name, value, 1);
        } else if (name == "--columns") {
            o.columns.clear();
            for (const std::string & item : split(value)) {
                o.columns.push_back(number(name, item, 1));
            }
        } else if (name == "--experts") {
            o.experts = number(name, value, 2);
        } else if (name == "--memory") {
            o.memory_mb = number(name, value, 1);
        } else if (name == "--repeat") {
            o.repeat = (int) number(name, value, 0);
        } else if (name == "--json") {
            o.json = value;
        } else {
            fail("unknown option " + name + "; --help lists them");
        }
    }
    return o;
}

static ggml_type type_of(const std::string & name) {
    for (int t = 0; t < GGML_TYPE_COUNT; ++t) {
        const char * known = ggml_type_name((ggml_type) t);
        if (known != nullptr && name == known) {
            return (ggml_type) t;
        }
    }
    fail("no type of ggml is named '" + name + "'");
}

// some distinct rows of normally distributed weights, quantised, over and over: making them takes a CPU long
struct weights {
    ggml_type            type;
    int64_t              length, distinct;
    size_t               row_bytes;
    std::vector<uint8_t> data;
    std::vector<float>   truth;  // dequantised

    weights(ggml_type type, int64_t rows, int64_t length)
        : type(type), length(length), distinct(std::min<int64_t>(rows, 64)), row_bytes(ggml_row_size(type, length)) {
        std::mt19937                    random(1);
        std::normal_distribution<float> normal;
        std::vector<float>              values(distinct * length);
        for (float & value : values) {
            value = normal(random);
        }
        const std::vector<float> importance(length, 1.0f);
        data.resize(distinct * row_bytes);
        ggml_quantize_chunk(type, values.data(), data.data(), 0, distinct, length, importance.data());
        truth.resize(values.size());
        const auto to_float = ggml_get_type_traits(type)->to_float;
        for (int64_t row = 0; row < distinct; ++row) {
            to_float(data.data() + row * row_bytes, truth.data() + row * length, length);
        }
    }

    const float * row(int64_t i) const { return truth.data() + i % distinct * length; }

    void upload(ggml_tensor * t) const {
        const int64_t        rows = ggml_nrows(t);
        std::vector<uint8_t> all(rows * row_bytes);
        for (int64_t row = 0; row < rows; ++row) {
            memcpy(all.data() + row * row_bytes, data.data() + row % distinct * row_bytes, row_bytes);
        }
        ggml_backend_tensor_set(t, all.data(), 0, all.size());
    }
};

// tensors on the device, and a graph of operations on them
struct bench {
    ggml_backend_t        backend;
    ggml_context *        context;
    ggml_cgraph *         graph;
    ggml_backend_buffer_t buffer = nullptr;

    explicit bench(ggml_backend_t backend) : backend(backend) {
        const size_t nodes = 4096;
        context =
            ggml_init({ ggml_tensor_overhead() * 3 * nodes + ggml_graph_overhead_custom(nodes, false), nullptr, true });
        graph = ggml_new_graph_custom(context, nodes, false);
    }

    bench(const bench &) = delete;

    ~bench() {
        ggml_backend_buffer_free(buffer);
        ggml_free(context);
    }

    void allocate() {
        buffer = ggml_backend_alloc_ctx_tensors(context, backend);
        if (buffer == nullptr) {
            fail("the device has too little memory; give less --memory, --rows or --length");
        }
    }

    double run() {
        ggml_backend_synchronize(backend);
        const auto start = std::chrono::steady_clock::now();
        if (ggml_backend_graph_compute(backend, graph) != GGML_STATUS_SUCCESS) {
            fail("the device cannot compute the graph");
        }
        ggml_backend_synchronize(backend);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

    double median_seconds(int repeat) {
        run();  // warm
        std::vector<double> times;
        for (int i = 0; i < repeat; ++i) {
            times.push_back(run());
        }
        std::sort(times.begin(), times.end());
        return times[times.size() / 2] / ggml_graph_n_nodes(graph);
    }
};

static double copy_bytes_per_second(ggml_backend_t backend, const lab_options & o) {
    bench         b(backend);
    const int64_t n    = o.memory_mb * 1024 * 1024 / 8;
    ggml_tensor * from = ggml_new_tensor_1d(b.context, GGML_TYPE_F32, n);
    ggml_tensor * to   = ggml_new_tensor_1d(b.context, GGML_TYPE_F32, n);
    for (int i = 0; i < 4; ++i) {
        ggml_build_forward_expand(b.graph, ggml_cpy(b.context, from, to));
    }
    b.allocate();
    return 2.0 * n * sizeof(float) / b.median_seconds(o.repeat);
}

// compares some of the rows of every column with sums in double
static void check_products(const weights &              w,
                           const std::vector<float> &   activations,
                           const ggml_tensor *          dst,
                           const std::vector<int32_t> & expert_of_column,
                           lab_result &                 result) {
    const int64_t      rows = dst->ne[0], columns = ggml_nelements(dst) / rows;
    std::vector<float> found(rows * columns);
    ggml_backend_tensor_get(dst, found.data(), 0, found.size() * sizeof(float));
    double        error = 0, energy = 0;
    const int64_t step  = std::max<int64_t>(1, rows / 61);
    const int64_t slots = expert_of_column.empty() ? 1 : dst->ne[1];
    for (int64_t column = 0; column < columns; ++column) {
        const float * x      = activations.data() + column / slots * w.length;
        const int64_t expert = expert_of_column.empty() ? 0 : expert_of_column[column];
        for (int64_t row = 0; row < rows; row += step) {
            const float * weight = w.row(expert * rows + row);
            double        sum    = 0;
            for (int64_t i = 0; i < w.length; ++i) {
                sum += (double) weight[i] * x[i];
            }
            const double difference = found[column * rows + row] - sum;
            error += difference * difference;
            energy += sum * sum;
        }
    }
    result.error    = error / energy;
    result.is_right = result.error < 5e-4;  // what test-backend-ops allows
}

static bool run_op(ggml_backend_t      backend,
                   const lab_options & o,
                   const std::string & op,
                   const weights &     w,
                   int64_t             columns,
                   lab_result &        result) {
    const bool    has_experts = op == "mul_mat_id";
    const int64_t experts     = has_experts ? o.experts : 1;
    const int64_t used        = has_experts ? 2 : 1;
    const double  matrix      = (double) w.row_bytes * o.rows * experts;
    const int     copies =
        o.repeat == 0 ? 1 : (int) std::min(1000.0, std::max(1.0, o.memory_mb * 1024.0 * 1024.0 / matrix));

    bench                      b(backend);
    std::vector<ggml_tensor *> matrices;
    ggml_tensor *              x   = nullptr;
    ggml_tensor *              ids = nullptr;
    ggml_tensor *              dst = nullptr;
    if (op == "mul_mat" || has_experts) {
        x = ggml_new_tensor_3d(b.context, GGML_TYPE_F32, w.length, has_experts ? 1 : columns,
                               has_experts ? columns : 1);
    }
    if (has_experts) {
        ids = ggml_new_tensor_2d(b.context, GGML_TYPE_I32, used, columns);
    } else if (op == "get_rows") {
        ids = ggml_new_tensor_1d(b.context, GGML_TYPE_I32, columns);
    }
    for (int copy = 0; copy < copies; ++copy) {
        ggml_tensor * a = ggml_new_tensor_3d(b.context, w.type, w.length, o.rows, experts);
        matrices.push_back(a);
        ggml_tensor * node =
            op == "mul_mat"  ? ggml_mul_mat(b.context, a, x) :
            has_experts      ? ggml_mul_mat_id(b.context, a, x, ids) :
            op == "get_rows" ? ggml_get_rows(b.context, a, ids) :
            op == "cpy"      ? ggml_cpy(b.context, a, ggml_new_tensor_2d(b.context, GGML_TYPE_F32, w.length, o.rows)) :
                               nullptr;
        if (node == nullptr) {
            fail("unknown operation '" + op + "'; --help lists them");
        }
        if (!ggml_backend_supports_op(backend, node)) {
            return false;
        }
        dst = copy == 0 ? node : dst;
        ggml_build_forward_expand(b.graph, node);
    }
    b.allocate();
    for (ggml_tensor * a : matrices) {
        w.upload(a);
    }

    std::mt19937                    random(2);
    std::normal_distribution<float> normal;
    std::vector<float>              activations(x != nullptr ? ggml_nelements(x) : 0);
    for (float & value : activations) {
        value = normal(random);
    }
    if (x != nullptr) {
        ggml_backend_tensor_set(x, activations.data(), 0, activations.size() * sizeof(float));
    }
    std::vector<int32_t> indices(ids != nullptr ? ggml_nelements(ids) : 0);
    for (size_t i = 0; i < indices.size(); ++i) {
        // the experts of a token differ
        indices[i] = (int32_t) (has_experts ? (i / used * 3 + i % used * (1 + i / used % (experts - 1))) % experts :
                                              i * 37 % o.rows);
    }
    if (ids != nullptr) {
        ggml_backend_tensor_set(ids, indices.data(), 0, indices.size() * sizeof(int32_t));
    }

    b.run();
    double rows_read = (double) o.rows;
    if (x != nullptr) {
        check_products(w, activations, dst, has_experts ? indices : std::vector<int32_t>(), result);
        std::vector<int32_t> distinct(indices);
        std::sort(distinct.begin(), distinct.end());
        rows_read *= has_experts ? std::unique(distinct.begin(), distinct.end()) - distinct.begin() : 1;
    } else {
        const int64_t      n = op == "cpy" ? o.rows : columns;
        std::vector<float> found(n * w.length);
        ggml_backend_tensor_get(dst, found.data(), 0, found.size() * sizeof(float));
        for (int64_t row = 0; row < n; ++row) {
            const float * expected = w.row(op == "cpy" ? row : indices[row]);
            for (int64_t i = 0; i < w.length; ++i) {
                result.error = std::max(result.error, (double) fabsf(found[row * w.length + i] - expected[i]));
            }
        }
        // our formats promise equal bits; others round as they like
        result.is_right = ggml_is_eoq(w.type) ? result.error == 0 : result.error < 1e-2;
        rows_read       = (double) n;
    }
    result.bytes = rows_read * w.row_bytes;
    if (o.repeat > 0) {
        result.seconds = b.median_seconds(o.repeat);
    }
    return true;
}

// the type of llama.cpp that a user would otherwise take
static std::string peer_of(const std::string & type) {
    static const std::map<std::string, std::string> peers = {
        { "eoq2", "q2_K" }, { "eoq3", "q3_K" }, { "eoq4", "q4_K" }, { "eoq5", "q5_K" }, { "eoq6", "q6_K" },
    };
    const auto found = peers.find(type.substr(0, 4));
    return found != peers.end() ? found->second : "";
}

static void write_json(const lab_options &             o,
                       const std::string &             device,
                       double                          copy,
                       const std::vector<lab_result> & results) {
    FILE * file = fopen(o.json.c_str(), "w");
    if (file == nullptr) {
        fail("cannot write " + o.json);
    }
    fprintf(file,
            "{\"device\": \"%s\", \"rows\": %lld, \"length\": %lld, \"copy_bytes_per_second\": %.6g, \"results\": [",
            device.c_str(), (long long) o.rows, (long long) o.length, copy);
    for (size_t i = 0; i < results.size(); ++i) {
        const lab_result & r = results[i];
        fprintf(file,
                "%s\n  {\"op\": \"%s\", \"type\": \"%s\", \"columns\": %lld, \"error\": %.6g, \"right\": %s, "
                "\"seconds\": %.6g, \"bytes\": %.0f}",
                i == 0 ? "" : ",", r.op.c_str(), r.type.c_str(), (long long) r.columns, r.error,
                r.is_right ? "true" : "false", r.seconds, r.bytes);
    }
    fputs("\n]}\n", file);
    if (fclose(file) != 0) {
        fail("cannot write " + o.json);
    }
}

int main(int argc, char ** argv) {
    lab_options o = parse(argc, argv);
    ggml_backend_load_all();
    ggml_backend_t backend =
        o.device.empty() ? ggml_backend_init_best() : ggml_backend_init_by_name(o.device.c_str(), nullptr);
    if (backend == nullptr) {
        fail("ggml has no device '" + o.device + "' here");
    }
    const std::string device = ggml_backend_dev_description(ggml_backend_get_device(backend));
    if (o.types.empty()) {
#define TYPE_NAME(T, t, code, width, A, a) o.types.push_back(#t);
        GGML_EOQ_WEIGHT_TYPES(TYPE_NAME)
#undef TYPE_NAME
        for (const char * peer : { "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_xs" }) {
            o.types.push_back(peer);
        }
    }
    printf("%s, %lld rows of %lld\n", device.c_str(), (long long) o.rows, (long long) o.length);
    const double copy = o.repeat > 0 ? copy_bytes_per_second(backend, o) : 0;
    if (copy > 0) {
        printf("copy: %.1f GB/s read and written\n", copy / 1e9);
    }

    std::vector<lab_result> results;
    for (const std::string & name : o.types) {
        const ggml_type type = type_of(name);
        if (ggml_get_type_traits(type)->to_float == nullptr || o.length % ggml_blck_size(type) != 0) {
            printf("%s: left out, its blocks do not make up a row of %lld\n", name.c_str(), (long long) o.length);
            continue;
        }
        const weights w(type, o.rows, o.length);
        for (const std::string & op : o.ops) {
            for (const int64_t columns : op == "cpy" ? std::vector<int64_t>{ 1 } : o.columns) {
                lab_result result = { op, name, columns, 0, false, 0, 0 };
                if (run_op(backend, o, op, w, columns, result)) {
                    results.push_back(result);
                } else {
                    printf("%s %s: the device has no kernel\n", op.c_str(), name.c_str());
                }
            }
        }
    }

    bool all_right = true;
    printf("%-10s %-9s %7s %10s %-5s %10s %8s %8s %10s\n", "op", "type", "columns", "error", "", "us", "GB/s",
           "of copy", "speed");
    for (const lab_result & r : results) {
        double peer = 0;
        for (const lab_result & other : results) {
            peer =
                other.op == r.op && other.columns == r.columns && other.type == peer_of(r.type) ? other.seconds : peer;
        }
        printf("%-10s %-9s %7lld %10.2e %-5s", r.op.c_str(), r.type.c_str(), (long long) r.columns, r.error,
               r.is_right ? "ok" : "WRONG");
        if (r.seconds > 0) {
            printf(" %10.1f %8.1f %8.2f", r.seconds * 1e6, r.bytes / r.seconds / 1e9, r.bytes / r.seconds / copy);
            if (peer > 0) {
                printf(" %8.2f x", peer / r.seconds);
            }
        }
        putchar('\n');
        all_right = all_right && r.is_right;
    }
    if (!o.json.empty()) {
        write_json(o, device, copy, results);
    }
    ggml_backend_free(backend);
    return all_right ? 0 : 1;
}
