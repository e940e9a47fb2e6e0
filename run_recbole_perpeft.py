"""``python run_recbole_perpeft.py --model=PerPEFTSASRec --dataset=demo --config_files="a.yaml b.yaml" --key=value``."""

from recbole_perpeft.commands.run import main

if __name__ == "__main__":
    main()
